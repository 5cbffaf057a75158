"""The stages of the benchmark. Each measures the project's functions on simulated data, has a folder for it, and yields
a `StageRow` as soon as it is measured."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tools.benchmark.rows import Setup, table_line
from tools.benchmark.stage_data import convert, feed
from tools.benchmark.stage_evaluation import features, probe, retrieve
from tools.benchmark.stage_training import epoch, objective, step
from tools.utils.distributed import keep_freed_memory
from tools.utils.errors import UserError

STAGES = {stage.__name__: stage for stage in (convert, feed, objective, step, epoch, features, probe, retrieve)}


def run_stage(name: str, setup: Setup) -> list[dict[str, Any]]:
    """Measure a stage in this process; print its rows one by one, and return them for the JSON.

    Raises UserError if the GPU's memory is too small, RuntimeError if a plain version (`setup.baseline`) gives another
    result than the project.
    """
    if name != "convert":  # as the programs do
        keep_freed_memory()
    rows = []
    try:
        with TemporaryDirectory(prefix="umurl_benchmark_") as folder:
            for row in STAGES[name](setup, Path(folder)):
                rows.append(row.to_json())
                print(table_line(rows[-1], setup.baseline), flush=True)
    except torch.OutOfMemoryError as error:
        raise UserError(f"{name}: too little GPU memory; give a smaller --batch-size or --hidden-size") from error
    return rows

"""The stages of the benchmark: each measures the product's own functions, on simulated data.

A stage is a function of `Setup` that returns `Row`s, its figures. Beside each figure stands what the machine itself
could do at best; with `Setup.baseline`, what the plain version of tests/baselines.py takes, once it has been seen to
give the same result.
"""

from __future__ import annotations

import importlib

import torch

from tools.benchmark.evaluation import probe, retrieve
from tools.benchmark.figures import Setup, Sizes
from tools.benchmark.preparation import convert, feed
from tools.benchmark.training import epoch, objective, step
from tools.utils.distributed import keep_freed_memory

STAGES = {stage.__name__: stage for stage in (convert, feed, objective, step, epoch, probe, retrieve)}


def run_stage(
    name: str,
    device: torch.device,
    sizes: Sizes,
    amp: str | None = None,
    compiled: bool = False,
    baseline: bool = False,
) -> list[dict[str, object]]:
    """The figures of one stage, measured in this process. Raises RuntimeError where a plain version (`baseline`)
    gives another result than the product."""
    if name != "convert":  # as the programs do
        keep_freed_memory()
    plain = importlib.import_module("tests.baselines") if baseline else None
    return [row.figures() for row in STAGES[name](Setup(device, sizes, amp, compiled, plain))]

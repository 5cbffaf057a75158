"""Time calls, count their operations, and format rows of the table."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

HEADER = ("stage", "what", "ms (min – max)", "a second", "of the limit", "GPU memory", "notes")
MIN_RUNS = 3


def measure(call: Callable[[], object], device: torch.device, seconds: float, repeats: int = 1) -> list[float]:
    """Return the seconds of a call in each run, after a run that does not count.

    A run makes `repeats` calls and ends when the GPU is done. There are at least three runs, and as many as take
    `seconds` together.
    """
    times: list[float] = []
    while len(times) <= MIN_RUNS or sum(times[1:]) < seconds:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return [t / repeats for t in times[1:]]


def count_flops(call: Callable[[], object]) -> int:
    """Count the operations of a call's matrix products and convolutions as it runs; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row, as `Bench.row` returns it, for the table."""
    median, least, most = (f"{1e3 * t:,.1f}" for t in (row["seconds"], min(row["times"]), max(row["times"])))
    name, unit, rate = row["limit"].values()
    speed = f"{row['per_second']:,.{0 if row['per_second'] > 100 else 1}f} {row['noun']}"
    limit = f"{100 * row['share']:.0f} % of {rate / 1e9:,.3g} G{unit}/s ({name})"
    memory = f"{row['memory'] / 2**30:.1f} GiB" if row["memory"] else ""
    return [row["stage"], row["what"], f"{median} ({least} – {most})", speed, limit, memory, row["note"]]

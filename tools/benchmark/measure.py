"""Measure times, peak memory, and what the machine itself can do."""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.benchmark import Timer


@dataclass(frozen=True)
class Measured:
    """Seconds per unit of work, one value per run, and peak memory in bytes: on a GPU what PyTorch allocated since the
    first of these runs; on a CPU the process's resident memory since its start."""

    times: list[float]
    memory: int

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def to_json(self) -> dict[str, object]:
        seconds = {"median": self.median, "min": min(self.times), "max": max(self.times), "runs": len(self.times)}
        return {"seconds": seconds, "peak_memory": self.memory}


def measure(call: Callable[[], object], device: torch.device, seconds: float, units: float = 1) -> Measured:
    """Time `call`, which does `units` of work, repeatedly for at least `seconds`, after one call that does not count.
    On a GPU a run ends when its work is done."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    times = timer.blocked_autorange(min_run_time=seconds).times
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured([t / units for t in times], memory)


@dataclass(frozen=True)
class Limit:
    """How fast the machine does a simple operation: `rate` in `unit` per second."""

    name: str
    unit: str
    rate: float


def split_limit(texts: list[bytes], seconds: float) -> Limit:
    """Measure splitting text at its blanks, on one core."""
    measured = measure(lambda: [t.split() for t in texts], torch.device("cpu"), seconds)
    return Limit("split text", "B", sum(map(len, texts)) / measured.median)


def copy_limit(device: torch.device, size: int, seconds: float) -> Limit:
    """Measure copying `size` bytes; each is read once and written once."""
    source = torch.zeros(size // 4, device=device)
    target = torch.zeros_like(source)
    return Limit("copy memory", "B", 2 * size / measure(lambda: target.copy_(source), device, seconds).median)


def product_limit(device: torch.device, shape: tuple[int, int, int], dtype: torch.dtype, seconds: float) -> Limit:
    """Measure the product of (m, k) by (k, n); the second matrix is stored as a Linear's weight is."""
    m, k, n = shape
    a, b = (torch.randn(rows, k, device=device, dtype=dtype) for rows in (m, n))
    name = f"{m}×{k} by {k}×{n}, {str(dtype).removeprefix('torch.')}"
    return Limit(name, "FLOP", 2 * m * k * n / measure(lambda: torch.mm(a, b.T), device, seconds).median)

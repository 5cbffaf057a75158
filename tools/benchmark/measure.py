"""What the benchmark measures with: times, peak memory, and the machine's own limits."""

from __future__ import annotations

import ctypes
import gc
import math
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from feeder.clips import NUM_FRAMES

STREAMS = 4  # and views: joint, bone, motion, and the three fused
SHORTEST = 0.05  # seconds a timed run should last at least; shorter calls are repeated within it
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Timing:
    """Seconds that each of several runs took."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def times(self, factor: float) -> Timing:
        """The same runs, each `factor` times as long."""
        return Timing(tuple(run * factor for run in self.runs))

    def figures(self) -> dict[str, float | int]:
        return {"median": self.median, "min": min(self.runs), "max": max(self.runs), "runs": len(self.runs)}


def measure(
    call: Callable[[], object], device: torch.device, runs: int, warm_up: Callable[[], object] | None = None
) -> Timing:
    """Time `call`, after `warm_up` (by default one call that is not counted). On a GPU, until its work is done."""
    (warm_up or call)()
    first = _seconds(call, 1, device)
    number = math.ceil(SHORTEST / first)
    found = [first] if number == 1 else []
    while len(found) < runs:
        found.append(_seconds(call, number, device) / number)
    return Timing(tuple(found))


def _seconds(call: Callable[[], object], number: int, device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    for _ in range(number):
        call()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """The most memory held since this was made, in bytes.

    On a GPU what PyTorch allocated there; on a CPU the process's resident memory, pages of mapped files included.
    Where the system cannot forget an earlier peak, it is the process's peak from its start.
    """

    def __init__(self, device: torch.device):
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _return_freed_memory()
            try:
                _CLEAR.write_text("5")
            except OSError:
                pass
        self.before = self._read("VmRSS")

    def figures(self) -> dict[str, int]:
        """`before`: held at the start, inputs among it; `peak`: the most since then."""
        return {"before": self.before, "peak": self._read("VmHWM")}

    def _read(self, what: str) -> int:
        if self.device.type == "cuda":
            peak = what == "VmHWM"
            return torch.cuda.max_memory_allocated(self.device) if peak else torch.cuda.memory_allocated(self.device)
        try:
            return 1024 * int(re.findall(rf"^{what}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)[0])
        except OSError:  # no /proc: the peak of the process is all there is
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most if sys.platform == "darwin" else 1024 * most


def _return_freed_memory() -> None:
    """Else what an earlier stage freed would count for the next one."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass


@dataclass(frozen=True)
class Limit:
    """What the machine itself can do: `amount` of `unit` in each of the runs."""

    name: str
    unit: str
    amount: float
    timing: Timing

    @property
    def rate(self) -> float:
        """`unit` a second."""
        return self.amount / self.timing.median

    def figures(self) -> dict[str, object]:
        rates = sorted(self.amount / run for run in self.timing.runs)
        return {"name": self.name, "unit": f"{self.unit}/s", "median": self.rate, "min": rates[0], "max": rates[-1]}


def split_limit(texts: list[bytes], runs: int) -> Limit:
    """Splitting text at its blanks, on one core."""

    def split() -> None:
        for text in texts:
            text.split()

    return Limit("split text", "B", sum(map(len, texts)), measure(split, torch.device("cpu"), runs))


def copy_limit(device: torch.device, size: int, runs: int) -> Limit:
    """Copying `size` bytes, each of them read once and written once."""
    source = torch.zeros(size // 4, device=device)
    target = torch.zeros_like(source)
    return Limit("copy memory", "B", 2 * size, measure(lambda: target.copy_(source), device, runs))


def product_limit(device: torch.device, shape: tuple[int, int, int], dtype: torch.dtype, runs: int) -> Limit:
    """The product of (m, k) by (k, n), the second one given as a Linear's weight is; result kept in `dtype`."""
    m, k, n = shape
    a, b = (torch.randn(rows, k, device=device, dtype=dtype) for rows in (m, n))
    out = torch.empty(m, n, device=device, dtype=dtype)
    timing = measure(lambda: torch.mm(a, b.T, out=out), device, runs)
    name = f"{m}×{k} by {k}×{n} in {str(dtype).removeprefix('torch.')}"
    return Limit(name, "FLOP", 2 * m * k * n, timing)


def largest_product(hidden_size: int, batch_size: int) -> tuple[int, int, int]:
    """(m, k, n) of the model's largest product, (m, k) by (k, n): query, key and value of all streams' frames."""
    return STREAMS * batch_size * NUM_FRAMES, hidden_size, 3 * hidden_size


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Of two tensors' values, relative to the larger one's size but absolute below 1."""
    a, b = a.double(), b.double()
    return ((a - b).abs() / torch.maximum(a.abs(), b.abs()).clamp(min=1)).max().item()

"""Time calls, count their operations, and measure the machine's own limits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Limit:
    """How fast the machine does a simple operation: `rate` in `unit` (FLOP or B) per second."""

    name: str
    unit: str
    rate: float


def product_limit(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> Limit:
    """Measure the product of two square matrices."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    median = statistics.median(measure(lambda: a @ b, device, seconds))
    return Limit(f"product of {size}³, {str(dtype).removeprefix('torch.')}", "FLOP", 2 * size**3 / median)


def copy_limit(device: torch.device, size: int, seconds: float) -> Limit:
    """Measure copying `size` bytes; each is read once and written once."""
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    return Limit("copy", "B", 2 * size / statistics.median(measure(lambda: target.copy_(source), device, seconds)))


def split_limit(texts: Sequence[bytes], seconds: float) -> Limit:
    """Measure splitting texts at their blanks, on one core."""
    times = measure(lambda: [text.split() for text in texts], torch.device("cpu"), seconds)
    return Limit("split of the text", "B", sum(map(len, texts)) / statistics.median(times))


@dataclass(frozen=True)
class Row:
    """The times of a stage beside the machine's limit.

    times: seconds of each run. items, noun: how many things of which kind a run works on. amount: what a run needs, in
    the limit's unit. memory: most bytes that PyTorch held on the GPU. profile: a table of kernels.
    """

    stage: str
    what: str
    times: list[float]
    items: int
    noun: str
    amount: float
    limit: Limit
    note: str
    memory: int
    profile: str = ""

    @property
    def seconds(self) -> float:
        """The median run."""
        return statistics.median(self.times)

    @property
    def share(self) -> float:
        """How much of the limit is reached, at most 1 if the limit is one."""
        return self.amount / self.seconds / self.limit.rate

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"seconds": self.seconds, "per_second": self.items / self.seconds, "share": self.share}

    def cells(self) -> list[str]:
        """Format the row for the table."""
        median, least, most = (f"{1e3 * t:,.1f}" for t in (self.seconds, min(self.times), max(self.times)))
        limit = f"{100 * self.share:.0f} % of {self.limit.rate / 1e9:,.3g} G{self.limit.unit}/s ({self.limit.name})"
        per_second = self.items / self.seconds
        speed = f"{per_second:,.{0 if per_second > 100 else 1}f} {self.noun}"
        memory = f"{self.memory / 2**30:.1f} GiB" if self.memory else ""
        return [self.stage, self.what, f"{median} ({least} – {most})", speed, limit, memory, self.note]

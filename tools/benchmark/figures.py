"""What a stage is given, and the figures that it returns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tools.benchmark.measure import Limit, PeakMemory, Timing, measure

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sizes:
    """How much is measured. By default NTU-60 x-sub; what the CPU's and the GPU's defaults share stands here."""

    hidden_size: int
    batch_size: int
    epoch_steps: int | None  # steps of an epoch that are measured; None: all
    probe_measured: int  # epochs of the probe that are measured
    retrieve_measured: int  # queries that are measured
    recordings: int = 30  # texts
    files: int = 480  # in which these texts are, for the whole conversion
    num_frame: int = 100
    clips: int = 4096  # distinct recordings to feed from
    feed_batch: int = 512
    objective: tuple[int, int] = (128, 4096)
    train: int = 40091
    val: int = 16487
    classes: int = 60
    feature_size: int = 2048
    probe_epochs: int = 150
    copy_bytes: int = 2**28
    plain_clips: int = 32  # that the plain probe encodes
    plain_queries: int = 16
    runs: int = 5
    slow_runs: int = 3


QUICK = Sizes(
    hidden_size=8,
    batch_size=6,
    epoch_steps=2,
    probe_measured=2,
    retrieve_measured=60,
    recordings=5,
    files=10,
    num_frame=12,
    clips=20,
    feed_batch=8,
    objective=(16, 256),
    train=400,
    val=100,
    feature_size=16,
    probe_epochs=10,
    copy_bytes=2**20,
    plain_clips=6,
    runs=2,
    slow_runs=2,
)


@dataclass(frozen=True)
class Setup:
    device: torch.device
    sizes: Sizes
    amp: str | None = None
    compile: bool = False
    baseline: Any = None  # the module tests.baselines


@dataclass
class Row:
    """One figure: the seconds that `units` of `unit` take, and what they would take at the machine's limit.

    needs: how much of the limit's unit (bytes, FLOP) that takes. plain: the same of the plain version.
    """

    stage: str
    what: str
    unit: str
    units: float
    timing: Timing
    limit: Limit
    needs: float
    memory: dict[str, int]
    note: str = ""
    plain: Timing | None = None
    plain_units: float = 1
    plain_memory: dict[str, int] | None = None
    plain_note: str = ""
    more: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, object]:
        """Everything, for the JSON. Times are seconds a unit."""
        each = self.timing.times(1 / self.units)
        figures: dict[str, object] = {
            "stage": self.stage,
            "what": self.what,
            "unit": self.unit,
            "seconds": each.figures(),
            "per_second": 1 / each.median,
            "limit": self.limit.figures(),
            "needs": self.needs / self.units,
            "share_of_limit": self.needs / self.limit.rate / self.timing.median,
            "memory": self.memory,
            "note": self.note,
            **self.more,
        }
        if self.plain:
            plain = self.plain.times(1 / self.plain_units)
            figures["baseline"] = {
                "seconds": plain.figures(),
                "ratio": plain.median / each.median,
                "memory": self.plain_memory,
                "note": self.plain_note,
            }
        return figures

    def compare(self, call: Callable[[], object], units: float, setup: Setup, note: str = "") -> None:
        """Time the plain version, which does `units` a call."""
        memory = PeakMemory(setup.device)
        self.plain = measure(call, setup.device, setup.sizes.slow_runs)
        self.plain_units, self.plain_memory, self.plain_note = units, memory.figures(), note


def check_same(stage: str, difference: float, bound: float) -> None:
    """Raises RuntimeError where the plain version's result is not the product's."""
    if not difference <= bound:
        raise RuntimeError(f"{stage}: the plain version's result differs by {difference:g}, more than {bound:g}")


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary one."""
    with tempfile.TemporaryDirectory(prefix="umurl_benchmark_") as path:
        yield Path(path)

"""Settings of a stage, and the rows of the table that it yields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from tools.benchmark.measure import Limit, Measured, measure, product_limit

CPU = torch.device("cpu")
COLUMNS = {"stage": 9, "what": 57, "time (min–max)": 35, "a second": 32, "of limit": 8, "peak memory": 11}
PLAIN_COLUMNS = {"plain version": 13, "ratio": 7}


@dataclass(frozen=True)
class Sizes:
    """How much is measured. Defaults are those of NTU-60 x-sub."""

    hidden_size: int
    batch_size: int
    epoch_steps: int | None  # steps that stand for an epoch; None: all of them
    features_measured: int  # clips that stand for all
    probe_measured: int  # epochs that stand for the whole probe
    retrieve_measured: int  # queries that stand for all
    recordings: int = 30  # with texts of their own
    files: int = 480  # with these texts, for the whole conversion
    num_frame: int = 100
    clips: int = 4096  # recordings to feed from
    feed_batch: int = 512
    train: int = 40091
    val: int = 16487
    classes: int = 60
    feature_size: int = 2048
    probe_epochs: int = 150
    copy_bytes: int = 2**28
    plain_clips: int = 32  # encoded by the plain versions
    plain_queries: int = 16
    queued_steps: int = 1  # in a timed run, which waits for the device at its end alone
    seconds: float = 5.0  # least time of a measurement


@dataclass(frozen=True)
class Setup:
    """Where to measure, how much, and whether plain versions and a profile too."""

    device: torch.device
    sizes: Sizes
    amp: str | None = None
    compile: str = "auto"
    baseline: bool = False
    profile: bool = False

    def measure(self, call: Callable[[], object], units: float = 1) -> Measured:
        """Time `call`, which does `units` of work, on the device."""
        return measure(call, self.device, self.sizes.seconds, units)

    def product_limit(self, shape: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> Limit:
        """Measure the device's product of (m, k) by (k, n)."""
        return product_limit(self.device, shape, dtype, self.sizes.seconds / 5)


@dataclass
class StageRow:
    """The time of one `unit` of work, beside the machine's limit.

    needs: what a unit of work takes, in the limit's unit (bytes, FLOP); samples: how many a unit of work has, 0 for
    none; plain: time of the plain version.
    """

    stage: str
    what: str
    unit: str
    measured: Measured
    limit: Limit
    needs: float
    samples: int = 0
    note: str = ""
    plain: Measured | None = None
    plain_note: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all values. Times are seconds per unit of work, rates per second."""
        per_second = 1 / self.measured.median
        values = {"stage": self.stage, "what": self.what, "unit": self.unit, **self.measured.to_json()}
        values |= {"per_second": per_second, "limit": vars(self.limit), "needs": self.needs, "note": self.note}
        values |= {"share_of_limit": self.needs * per_second / self.limit.rate, **self.more}
        if self.samples:
            values["samples_per_second"] = self.samples * per_second
        if self.plain:
            ratio = self.plain.median * per_second
            values["baseline"] = {**self.plain.to_json(), "ratio": ratio, "note": self.plain_note}
        return values

    def compare(self, call: Callable[[], object], units: float, setup: Setup, note: str = "") -> None:
        """Time the plain version, whose `call` does `units` of work."""
        self.plain, self.plain_note = setup.measure(call, units), note


def table_header(compared: bool) -> str:
    columns = COLUMNS | (PLAIN_COLUMNS if compared else {})
    names = " | ".join(name.ljust(width) for name, width in columns.items())
    return f"| {names} | notes |\n| {' | '.join('-' * width for width in columns.values())} | ----- |"


def table_line(row: dict[str, Any], compared: bool) -> str:
    """Format a row from `StageRow.to_json` as a line of the Markdown table."""
    s, plain, limit = row["seconds"], row.get("baseline"), row["limit"]
    samples = row.get("samples_per_second")
    rate = f"{samples:,.0f} samples" if samples else f"{row['per_second']:,.3g}"
    if limit["unit"] == "FLOP":
        rate += f", {row['needs'] * row['per_second'] / 1e12:.3g} TFLOP"
    time = f"{_time(s['median'], s['min'], s['max'])} / {row['unit']}"
    share, memory = f"{100 * row['share_of_limit']:.0f} %", f"{row['peak_memory'] / 2**20:,.0f} MiB"
    cells = [row["stage"], row["what"], time, rate, share, memory]
    if compared:
        cells += [_time(plain["seconds"]["median"]), f"{plain['ratio']:,.1f}×"] if plain else ["", ""]
    widths = [*COLUMNS.values(), *PLAIN_COLUMNS.values()]
    notes = [f"limit {limit['rate'] / 1e9:,.3g} G{limit['unit']}/s ({limit['name']})", row["note"]]
    notes.append(f"plain version {plain['note']}" if plain and plain["note"] else "")
    return f"| {' | '.join(c.ljust(w) for c, w in zip(cells, widths))} | {'; '.join(n for n in notes if n)} |"


def _time(median: float, *spread: float) -> str:
    """Format the median and, in brackets, the least and the greatest time, in one unit."""
    unit, size = next(((u, n) for u, n in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)) if median >= n), ("ns", 1e-9))
    first, *others = (f"{x / size:,.3g}" if x < 1000 * size else f"{x / size:,.0f}" for x in (median, *spread))
    return f"{first} ({'–'.join(others)}) {unit}" if others else f"{first} {unit}"


def check_same(what: str, product: Any, plain: Any, bound: float) -> None:
    """Raise RuntimeError if two results differ by more than `bound`: relative to the larger one, absolute below 1."""
    a, b = (torch.as_tensor(x).detach().double().cpu() for x in (product, plain))
    difference = ((a - b).abs() / torch.maximum(a.abs(), b.abs()).clamp(min=1)).max().item()
    if not difference <= bound:
        raise RuntimeError(f"{what}: the plain version's result differs by {difference:g}, more than {bound:g}")

"""The one table of data sets and their protocols: names, classes, splits, recipes and places.

Whatever differs between NTU-60, NTU-120 and the demo is a row here; no other module branches on a data set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data_gen.skeleton_file import RecordingName

ROOT = Path(__file__).resolve().parents[1]
DATA_ROOT = ROOT / "data"

# Shahroudy et al. 2016 and Liu et al. 2019: the performers on the training side.
NTU60_SUBJECTS = frozenset([1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38])
NTU120_SUBJECTS = NTU60_SUBJECTS | frozenset(
    [45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89]
    + [91, 92, 93, 94, 95, 97, 98, 100, 103]
)


@dataclass(frozen=True)
class Recipe:
    """What pre-training uses where no flag says otherwise (docs/method.md, 7). `batch_size` is global."""

    batch_size: int
    epochs: int = 451
    schedule: tuple[int, ...] = (351,)
    lr: float = 5e-4
    hidden_size: int = 1024
    save_freq: int = 50


@dataclass(frozen=True)
class Protocol:
    """A split by one field of the recording's name: `train` holds that field's values on the training side.
    `published_scores` are the paper's for all modalities, in %."""

    name: str
    long_name: str
    field: str
    train: frozenset[int]
    recipe: Recipe
    published_counts: tuple[int, int] | None = None
    published_scores: tuple[float, float] | None = None  # recognition, retrieval

    def trains_on(self, name: RecordingName) -> bool:
        """Whether a recording is on the training side."""
        return getattr(name, self.field) in self.train


@dataclass(frozen=True)
class DataSet:
    """`raw` are places under the data root that are searched when the user names none."""

    name: str
    title: str
    classes: int
    setups: int
    raw: tuple[str, ...]
    protocols: tuple[Protocol, ...] = field(default_factory=tuple)

    def covers(self, name: RecordingName) -> bool:
        """Whether a recording is of this data set, by its action and setup."""
        return name.action <= self.classes and name.setup <= self.setups

    def protocol(self, name: str) -> Protocol:
        """The protocol called `name`, short (`xsub`) or long (`cross_subject`). Raises ValueError."""
        for protocol in self.protocols:
            if name in (protocol.name, protocol.long_name):
                return protocol
        known = ", ".join(f"{p.long_name} ({p.name})" for p in self.protocols)
        raise ValueError(f"{self.name} has no protocol {name!r}; it has {known}")


# Small enough for minutes on two CPU cores: smaller batches and a higher rate make up for few epochs.
_DEMO_RECIPE = Recipe(batch_size=64, epochs=60, schedule=(46,), lr=1e-3, hidden_size=64, save_freq=10)
_CAMERAS = frozenset([2, 3])

DATASETS: dict[str, DataSet] = {
    d.name: d
    for d in (
        DataSet(
            "ntu60",
            "NTU RGB+D 60",
            classes=60,
            setups=17,
            raw=("nturgbd_raw",),
            protocols=(
                Protocol(
                    "xsub", "cross_subject", "performer", NTU60_SUBJECTS, Recipe(512), (40091, 16487), (84.2, 72.0)
                ),
                Protocol("xview", "cross_view", "camera", _CAMERAS, Recipe(1024), (37646, 18932), (90.9, 88.9)),
            ),
        ),
        DataSet(
            "ntu120",
            "NTU RGB+D 120",
            classes=120,
            setups=32,
            # The second place completes a first one that holds only the recordings new in NTU-120.
            raw=("nturgbd_raw_120", "nturgbd_raw"),
            protocols=(
                Protocol(
                    "xsub", "cross_subject", "performer", NTU120_SUBJECTS, Recipe(1024), (63026, 50919), (75.2, 59.5)
                ),
                Protocol(
                    "xsetup",
                    "cross_setup",
                    "setup",
                    frozenset(range(2, 33, 2)),
                    Recipe(1024),
                    (54468, 59477),
                    (76.3, 62.2),
                ),
            ),
        ),
        DataSet(
            "demo",
            "simulated demo",
            classes=12,
            setups=17,
            raw=("demo_raw",),
            protocols=(
                Protocol("xsub", "cross_subject", "performer", NTU60_SUBJECTS, _DEMO_RECIPE),
                Protocol("xview", "cross_view", "camera", _CAMERAS, _DEMO_RECIPE),
            ),
        ),
    )
}


def get_dataset(name: str) -> DataSet:
    """The row called `name`. Raises ValueError naming the known ones."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def from_test_name(test_name: str) -> tuple[DataSet, Protocol] | None:
    """Data set and protocol whose `dataset_protocol` begins `test_name` (`ntu60_xsub_lr1` → NTU-60 x-sub); a name
    that only begins with `demo` is its first protocol. None where no known one does."""
    for dataset in DATASETS.values():
        for protocol in dataset.protocols:
            if test_name.startswith(f"{dataset.name}_{protocol.name}"):
                return dataset, protocol
    if test_name.startswith("demo"):
        return DATASETS["demo"], DATASETS["demo"].protocols[0]
    return None

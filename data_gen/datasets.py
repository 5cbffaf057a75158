"""The one table of data sets and their protocols: names, classes, splits and places; recipes.py has the recipes.

All differences between data sets are rows here; no other module branches on them. The row of a user's own data set is
made from its dataset.json (`packed/catalogue.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from data_gen import recipes
from data_gen.packed.names import RecordingName
from data_gen.recipes import PretrainRecipe

ROOT = Path(__file__).resolve().parents[1]
DATA_ROOT = ROOT / "data"
UNTRIMMED = "_untrimmed"  # suffix of the name of a data set's long recordings; its clips' name lacks it

# The training subjects: Shahroudy et al. 2016 and Liu et al. 2019.
NTU60_SUBJECTS = frozenset([1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38])
NTU120_SUBJECTS = NTU60_SUBJECTS | frozenset(
    [45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89]
    + [91, 92, 93, 94, 95, 97, 98, 100, 103]
)


@dataclass(frozen=True)
class Protocol:
    """A split into train and val.

    NTU: recordings with a value of `train` in the field `field` of their names are for training. PKU-MMD: the file
    `split_file`.txt lists the videos. A user's own protocol has neither, its packed data set holds the split.
    `published_scores` are the paper's with all modalities, in %.
    """

    name: str
    long_name: str
    recipe: PretrainRecipe
    published_counts: tuple[int, int] | None = None
    published_scores: tuple[float, float] | None = None  # recognition, retrieval
    field: str = ""
    train: frozenset[int] = frozenset()
    split_file: str = ""
    published_videos: tuple[int, int] | None = None

    @property
    def title(self) -> str:
        """Both names, or one if they are the same."""
        return self.name if self.long_name == self.name else f"{self.long_name} ({self.name})"

    def trains_on(self, name: RecordingName) -> bool:
        """Tell by its NTU name whether a recording is for training."""
        return getattr(name, self.field) in self.train


@dataclass(frozen=True)
class DataSet:
    """raw: folders in the data root that hold the recordings, unless the user names others. converter: program in
    data_gen/ and flags that make the packed data set. setups: number of NTU's setups. video: regular expression of the
    names of PKU-MMD's videos."""

    name: str
    title: str
    classes: int
    raw: tuple[str, ...] = ()
    converter: str = ""
    protocols: tuple[Protocol, ...] = ()
    setups: int = 0
    video: str = ""
    published_long: int | None = None  # recordings of more than 300 frames

    def covers(self, name: RecordingName) -> bool:
        """Tell by its NTU name (action and setup) whether a recording belongs to this data set."""
        return name.action <= self.classes and name.setup <= self.setups

    def protocol(self, name: str) -> Protocol:
        """Return a protocol by its short (`xsub`) or long name (`cross_subject`). Raises ValueError."""
        for protocol in self.protocols:
            if name in (protocol.name, protocol.long_name):
                return protocol
        known = nearest_first(name, [protocol.title for protocol in self.protocols])
        raise ValueError(f"{self.name} has no protocol {name!r}; it has {known or 'none'}")


_CAMERAS, _EVEN_SETUPS = frozenset([2, 3]), frozenset(range(2, 33, 2))

# fmt: off
# Recordings with NTU names, a `.skeleton` file each. NTU-120 has two folders, as the first may hold only the recordings
# that are not in NTU-60.
NTU = (
    DataSet("ntu60", "NTU RGB+D 60", 60, ("nturgbd_raw",), "ntu_gendata.py --dataset ntu60", setups=17, protocols=(
        Protocol("xsub", "cross_subject", recipes.NTU60_XSUB, (40091, 16487), (84.2, 72.0), "subject", NTU60_SUBJECTS),
        Protocol("xview", "cross_view", recipes.NTU, (37646, 18932), (90.9, 88.9), "camera", _CAMERAS),
    )),
    DataSet("ntu120", "NTU RGB+D 120", 120, ("nturgbd_raw_120", "nturgbd_raw"), "ntu_gendata.py --dataset ntu120",
            setups=32, protocols=(
        Protocol("xsub", "cross_subject", recipes.NTU, (63026, 50919), (75.2, 59.5), "subject", NTU120_SUBJECTS),
        Protocol("xsetup", "cross_setup", recipes.NTU, (54468, 59477), (76.3, 62.2), "setup", _EVEN_SETUPS),
    )),
    DataSet("demo", "simulated demo", 12, ("demo_raw",), "ntu_gendata.py --dataset demo", setups=17, protocols=(
        Protocol("xsub", "cross_subject", recipes.DEMO, field="subject", train=NTU60_SUBJECTS),
        Protocol("xview", "cross_view", recipes.DEMO, field="camera", train=_CAMERAS),
    )),
)
# The parts of PKU-MMD: long videos, cut into clips by label files. Not all classes of part I occur in part II.
PKU = (
    DataSet("pku1", "PKU-MMD I", 51, ("pkummd_raw/v1",), "pku_gendata.py --part 1", video=r"\d{4}-[LMR]",
            published_long=407, protocols=(
        Protocol("xsub", "cross_subject", recipes.PKU1, (18841, 2704), split_file="cross_subject",
                 published_videos=(944, 132)),
        Protocol("xview", "cross_view", recipes.PKU1, split_file="cross_view"),
    )),
    DataSet("pku2", "PKU-MMD II", 51, ("pkummd_raw/v2",), "pku_gendata.py --part 2", video=r"A\d{2}N\d{2}-[LMR]",
            protocols=(
        Protocol("xsub", "cross_subject", recipes.PKU2, split_file="cross_subject_v2"),
        Protocol("xview", "cross_view", recipes.PKU2, split_file="cross_view_v2"),
    )),
)
# fmt: on
DATASETS: dict[str, DataSet] = {dataset.name: dataset for dataset in (*NTU, *PKU)}


def get_dataset(name: str) -> DataSet:
    """Return the row called `name`. Raises ValueError, which lists known names."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known: {nearest_first(name, DATASETS)}")
    return DATASETS[name]


def from_test_name(test_name: str, rows: dict[str, DataSet] = DATASETS) -> tuple[DataSet, Protocol] | None:
    """Find data set and protocol of a run by its name: `dataset_protocol`, perhaps with more after a `_`
    (`ntu60_xsub_lr1`: NTU-60 x-sub). The longest match wins. `demo` and `demo_...` without a protocol mean the demo's
    first. None if nothing matches."""
    known = protocols_by_name(rows)
    fitting = [name for name in known if f"{test_name}_".startswith(f"{name}_")]
    if not fitting and f"{test_name}_".startswith("demo_") and not any(map(test_name.startswith, known)):
        fitting = ["demo_xsub"]
    return known[max(fitting, key=len)] if fitting else None


def protocols_by_name(rows: dict[str, DataSet]) -> dict[str, tuple[DataSet, Protocol]]:
    """Map `dataset_protocol` to data set and protocol, for all of them."""
    return {f"{dataset.name}_{p.name}": (dataset, p) for dataset in rows.values() for p in dataset.protocols}


def nearest_first(name: str, known: Iterable[str], count: int = 10) -> str:
    """List at most `count` known names for a message, the most similar to a mistyped one first."""
    names = sorted(known, key=lambda other: SequenceMatcher(None, name, other).ratio(), reverse=True)
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more

"""The one table of published data sets and their protocols, and the data sets in a data root.

All differences between data sets are rows here; no other module branches on them. The row of a user's own data set is
made from its dataset.json.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_gen import class_names
from data_gen.packed.reader import ALL, INFO, SPLITS, PackedDataset, read_info
from data_gen.skeletons import NUM_PEOPLE, SKELETONS, FrameLayout
from utils.errors import UserError
from utils.text import nearest_first

ROOT = Path(__file__).resolve().parents[1]
DATA_ROOT = ROOT / "data"
UNTRIMMED = "_untrimmed"  # suffix of the name of a data set's long recordings; its clips' name lacks it

# The training subjects: Shahroudy et al. 2016 and Liu et al. 2019.
NTU60_SUBJECTS = frozenset([1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38])
NTU120_SUBJECTS = NTU60_SUBJECTS | frozenset(
    [45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89]
    + [91, 92, 93, 94, 95, 97, 98, 100, 103]
)
NTU_NAME = r"S[0-9]{3}C[0-9]{3}P[0-9]{3}R[0-9]{3}A[0-9]{3}"  # setup, camera, subject, replication, action


# ---- names of recordings and classes ---------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class RecordingName:
    """The numbers in `SsssCcccPpppRrrrAaaa`; `action` counts from 1, `label` from 0."""

    setup: int
    camera: int
    subject: int
    replication: int
    action: int

    @property
    def label(self) -> int:
        return self.action - 1


def parse_name(stem: str) -> RecordingName:
    """Read an NTU recording's name (without `.skeleton`). Raises UserError for anything else."""
    if not re.fullmatch(NTU_NAME, stem):
        raise UserError("the name is not of the form SsssCcccPpppRrrrAaaa.skeleton")
    numbers = [int(stem[at : at + 3]) for at in range(1, 20, 4)]
    if 0 in numbers:
        raise UserError("a number in the name is 000; all of them count from 001")
    return RecordingName(*numbers)


def class_label(index: int) -> str:
    """Number a class as recordings' names do: `A001` for index 0."""
    return f"A{index + 1:03d}"


# ---- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Protocol:
    """A split into train and val.

    Recordings with a value of `train` in the field `field` of their NTU names, or in that column of a table (subject,
    camera), are for training. PKU-MMD: the file `split_file`.txt lists the videos. A user's own protocol has neither;
    its packed data set holds the split.
    `published_scores` are the paper's with all modalities, in %: recognition, retrieval.
    """

    name: str
    long_name: str
    published_counts: tuple[int, int] | None = None
    published_scores: tuple[float, float] | None = None
    field: str = ""
    train: frozenset = frozenset()
    split_file: str = ""
    published_videos: tuple[int, int] | None = None

    @property
    def title(self) -> str:
        """Both names, or one if they are the same."""
        return self.name if self.long_name == self.name else f"{self.long_name} ({self.name})"

    def trains_on(self, name: RecordingName) -> bool:
        """Return whether a recording with an NTU name is for training."""
        return getattr(name, self.field) in self.train


@dataclass(frozen=True)
class DataSet:
    """skeleton: its name in SKELETONS. people: in a frame. class_names: by label; A001 and so on if empty.

    raw: folders in the data root that hold the recordings by default. setups: number of NTU's setups. video: regular
    expression of the names of PKU-MMD's videos. published_long: number of recordings of more than 300 frames.
    """

    name: str
    title: str
    classes: int
    skeleton: str = "kinect_v2"
    people: int = NUM_PEOPLE
    class_names: Sequence[str] = ()
    raw: tuple[str, ...] = ()
    setups: int = 0
    video: str = ""
    protocols: tuple[Protocol, ...] = ()
    published_long: int | None = None

    @property
    def layout(self) -> FrameLayout:
        """What its frames hold. Only of a published data set: another's packed data set tells."""
        return FrameLayout(SKELETONS[self.skeleton], self.people)

    def covers(self, name: RecordingName) -> bool:
        """Return whether a recording with an NTU name belongs to this data set, by action and setup."""
        return name.action <= self.classes and name.setup <= self.setups

    def protocol(self, name: str) -> Protocol:
        """Return a protocol by its short (`xsub`) or long name (`cross_subject`)."""
        for protocol in self.protocols:
            if name in (protocol.name, protocol.long_name):
                return protocol
        names = nearest_first(name, [protocol.title for protocol in self.protocols])
        raise UserError(f"{self.name} has no protocol {name!r}; it has {names or 'none'}")


_CAMERAS, _EVEN_SETUPS = frozenset([2, 3]), frozenset(range(2, 33, 2))

# fmt: off
# Recordings with NTU names, a `.skeleton` file each. NTU-120 has two folders, as the first may hold only the recordings
# that are not in NTU-60.
NTU = (
    DataSet("ntu60", "NTU RGB+D 60", 60, class_names=class_names.NTU[:60], raw=("nturgbd_raw",), setups=17, protocols=(
        Protocol("xsub", "cross_subject", (40091, 16487), (84.2, 72.0), "subject", NTU60_SUBJECTS),
        Protocol("xview", "cross_view", (37646, 18932), (90.9, 88.9), "camera", _CAMERAS),
    )),
    DataSet("ntu120", "NTU RGB+D 120", 120, class_names=class_names.NTU, raw=("nturgbd_raw_120", "nturgbd_raw"),
            setups=32, protocols=(
        Protocol("xsub", "cross_subject", (63026, 50919), (75.2, 59.5), "subject", NTU120_SUBJECTS),
        Protocol("xsetup", "cross_setup", (54468, 59477), (76.3, 62.2), "setup", _EVEN_SETUPS),
    )),
    DataSet("demo", "simulated demo", 12, class_names=class_names.DEMO, raw=("demo_raw",), setups=17, protocols=(
        Protocol("xsub", "cross_subject", field="subject", train=NTU60_SUBJECTS),
        Protocol("xview", "cross_view", field="camera", train=_CAMERAS),
    )),
)
# The parts of PKU-MMD: long videos, cut into clips by label files. Not all classes of part I occur in part II.
PKU = (
    DataSet("pku1", "PKU-MMD I", 51, class_names=class_names.PKU, raw=("pkummd_raw/v1",), video=r"\d{4}-[LMR]",
            published_long=407, protocols=(
        Protocol("xsub", "cross_subject", (18841, 2704), split_file="cross_subject", published_videos=(944, 132)),
        Protocol("xview", "cross_view", split_file="cross_view"),
    )),
    DataSet("pku2", "PKU-MMD II", 51, class_names=class_names.PKU, raw=("pkummd_raw/v2",), video=r"A\d{2}N\d{2}-[LMR]",
            protocols=(
        Protocol("xsub", "cross_subject", split_file="cross_subject_v2"),
        Protocol("xview", "cross_view", split_file="cross_view_v2"),
    )),
)
# fmt: on
DATASETS: dict[str, DataSet] = {dataset.name: dataset for dataset in (*NTU, *PKU)}


def protocols_by_name(rows: dict[str, DataSet]) -> dict[str, tuple[DataSet, Protocol]]:
    """Map `dataset_protocol` to data set and protocol, for all of them."""
    return {f"{dataset.name}_{p.name}": (dataset, p) for dataset in rows.values() for p in dataset.protocols}


def from_test_name(test_name: str, rows: dict[str, DataSet] = DATASETS) -> tuple[DataSet, Protocol] | None:
    """Find data set and protocol of a run by its name: `dataset_protocol`, perhaps with more after a `_`
    (`ntu60_xsub_lr1`: NTU-60 x-sub). The longest match wins. `demo` and `demo_...` without a protocol mean the demo's
    first. None if nothing matches."""
    names = protocols_by_name(rows)
    fitting = [name for name in names if f"{test_name}_".startswith(f"{name}_")]
    if not fitting and f"{test_name}_".startswith("demo_") and not any(map(test_name.startswith, names)):
        fitting = ["demo_xsub"]
    return names[max(fitting, key=len)] if fitting else None


# ---- data sets in a data root ----------------------------------------------------------------------------------------


def packed_in(root: Path) -> dict[str, tuple[Path, dict]]:
    """Find the packed data sets in `root`, or `root` itself: folder and dataset.json of each, by name. If several data
    sets have one name, the folder of that name is taken."""
    folders = [root] if (root / INFO).is_file() else sorted(path.parent for path in root.glob(f"*/{INFO}"))
    infos: dict[str, tuple[Path, dict]] = {}
    for folder in folders:
        try:
            info = read_info(folder / INFO)
        except UserError:  # opening the data set says why
            continue
        name = info["dataset"]
        if name not in infos or folder.name == name:
            infos[name] = folder, info
    return infos


def row_of(info: dict) -> DataSet:
    """Make a data set's row from its dataset.json: the table's row or a new one, with added protocols. Long recordings
    of a data set in the table have the protocols of its clips, with their long names."""
    name, protocols = info["dataset"], info["protocols"]
    row = DATASETS.get(name)
    if row is None:
        clips = DATASETS.get(name.removesuffix(UNTRIMMED))
        same = [replace(p, published_counts=None) for p in clips.protocols if p.name in protocols] if clips else []
        row = DataSet(name, info.get("title", name), info["classes"], protocols=tuple(same))
    listed = {protocol.name for protocol in row.protocols}
    added = tuple(Protocol(name, name) for name in (*protocols, ALL) if name not in listed)
    return replace(row, protocols=row.protocols + added)


def rows_in(root: Path) -> dict[str, DataSet]:
    """Return the rows of all data sets by name: the table's and those in `root`."""
    return DATASETS | {name: row_of(info) for name, (_, info) in packed_in(root).items()}


def choose_data(
    dataset: str | None, protocol: str | None, test_name: str, root: Path = DATA_ROOT
) -> tuple[DataSet, Protocol]:
    """Choose a data set and a protocol, of the table or under `root`, by their names; where one is None, by the
    protocol's name with which `test_name` begins."""
    rows = rows_in(root)
    row, default = from_test_name(test_name, rows) or (None, None)
    if dataset and (row is None or row.name != dataset):
        if dataset not in rows:
            if (root / dataset / INFO).is_file():
                read_info(root / dataset / INFO)  # raises if it is damaged
            raise UserError(f"unknown data set {dataset!r}; in the table and {root}: {nearest_first(dataset, rows)}")
        row, default = rows[dataset], None
    if row is None:
        names = nearest_first(test_name, protocols_by_name(rows))
        raise UserError(
            f"{test_name!r} does not begin with a protocol's name (such as {names}): name the data set and the "
            "protocol by flags, see --help"
        )
    return row, row.protocol(protocol) if protocol else default or row.protocols[0]


def open_dataset(
    root: Path, dataset: DataSet, protocol: Protocol, splits: Sequence[str] = SPLITS, long: bool = False
) -> PackedDataset:
    """Open the packed data set under `root`, or `root` itself if it is one. It has clips, or with `long` long
    recordings, and at least two in each of the `splits`."""
    path = root
    if not (root / INFO).is_file():
        path, _ = packed_in(root).get(dataset.name, (root / dataset.name, None))
    if not (path / INFO).is_file():
        raise UserError(
            f"{path.resolve()}: no packed data set; convert its recordings first (see Data in README.md), or name its "
            "place by --data-root"
        )
    packed = PackedDataset(path)
    if packed.name != dataset.name:
        raise UserError(f"{path}: holds {packed.name}, not {dataset.name}; choose another --data-root or data set")
    if long and packed.segments is None:
        raise UserError(
            f"{path}: holds clips; detection takes long recordings with segments (data_gen/pku_gendata.py --untrimmed, "
            "data_gen.import_dataset long)"
        )
    if not long and packed.segments is not None:
        raise UserError(f"{path}: holds long recordings, not clips; tools.detect and tools.timeline take them")
    for split in splits:
        if len(packed.split(protocol.name, split)) < 2:
            raise UserError(
                f"{path}: fewer than two recordings in {split} of {protocol.long_name}; choose another --protocol, or "
                "add one with python -m data_gen.add_protocol"
            )
    return packed


def classes_of(packed: PackedDataset) -> list[str]:
    """Return the names of a data set's classes, by label: its own, else the table's, else `A001` and so on."""
    row = DATASETS.get(packed.name)
    names = packed.class_names or (row and row.class_names) or [*map(class_label, range(packed.num_classes))]
    return list(names[: packed.num_classes])

"""Define options that several programs share, and open the data set that they choose."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from data_gen.class_names import class_names
from data_gen.datasets import (
    DATA_ROOT,
    DATASETS,
    ROOT,
    DataSet,
    Protocol,
    from_test_name,
    nearest_first,
    protocols_by_name,
)
from data_gen.packed.atomic import check_replaceable
from data_gen.packed.catalogue import find_dataset, packed_in, rows_in
from data_gen.packed.info import is_frame_rate, is_one_line, read_text
from data_gen.packed.reader import INFO, SIDES, PackedDataset
from data_gen.packed.words import counted
from models.checkpoint_files import in_folder
from tools.utils.errors import UserError

Number = TypeVar("Number", int, float)
_LARGEST = 1e30  # what float32 holds
_MOST = 10**9  # of whole numbers
_MAX_NAMES = 2**20  # bytes of a file of names
RUNS = ROOT / "checkpoints"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Add the default to every option's help that does not state it, unless it is None or False; keep line breaks in
    the description and epilog."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def add_data_options(parser: argparse.ArgumentParser, dataset_flag: str) -> None:
    parser.add_argument(
        dataset_flag,
        dest="dataset",
        metavar="NAME",
        nargs="+" if dataset_flag == "--pre-dataset" else None,
        help=f"data set: {', '.join(DATASETS)}, or another in --data-root; default: "
        + ("by the name of --checkpoint-path" if dataset_flag == "--pre-dataset" else "the checkpoint's own"),
    )
    parser.add_argument(
        "--protocol",
        help="cross_subject, cross_view or cross_setup (or xsub, xview, xsetup), one of the data set's own, or all: "
        "every recording to train on; default: as for the data set",
    )
    root = "folder that holds packed data sets, or one packed data set"
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT, help=root)
    add_device_option(parser)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")


def run_path(text: str | Path) -> Path:
    """Return the path of a checkpoint or of a run's folder, given as a path or as a name under checkpoints/."""
    return RUNS / text if not Path(text).exists() and (RUNS / text).exists() else Path(text)


def find_run(text: str | Path) -> Path:
    """Return the path of a checkpoint or a run's folder, as `run_path` does. Raises UserError if it does not exist."""
    path = run_path(text)
    if path.exists():
        return path
    known = nearest_first(Path(text).name, [path.name for path in RUNS.glob("*") if in_folder(path)])
    raise UserError(f"no checkpoint at {text}, and no run of that name; in {RUNS} there are: {known or 'none'}")


def choose_data(
    dataset: str | None, protocol: str | None, test_name: str, root: Path = DATA_ROOT
) -> tuple[DataSet, Protocol]:
    """Choose a data set and a protocol, of the table or under `root`, by their names; where one is None, by the
    protocol's name with which `test_name` begins. Raises UserError if there is none."""
    rows = rows_in(root)
    known, its_protocol = from_test_name(test_name, rows) or (None, None)
    try:
        row = find_dataset(dataset, rows, root) if dataset else known
        if row is None:
            raise UserError(
                f"{test_name!r} does not begin with a known protocol (did you mean one of "
                f"{nearest_first(test_name, protocols_by_name(rows))}?): name the data set and the protocol by flags, "
                "see --help"
            )
        if protocol:
            return row, row.protocol(protocol)
        return row, its_protocol if its_protocol and known == row else row.protocols[0]
    except ValueError as error:
        raise UserError(str(error)) from error


def open_dataset(
    root: Path, dataset: DataSet, protocol: Protocol, sides: Sequence[str] = SIDES, long: bool = False
) -> PackedDataset:
    """Open the packed data set under `root`, or `root` itself if it is one.

    It holds clips, or with `long` long recordings. Raises UserError if it is missing, another one, or has fewer than
    two recordings on one of the `sides`; DataSetError if it is damaged.
    """
    path = root if (root / INFO).is_file() else packed_in(root).get(dataset.name, root / dataset.name)
    if not (path / INFO).is_file():
        raise UserError(
            f"no packed data set at {path.resolve()}: convert its recordings first (python data_gen/"
            f"{dataset.converter}), or say by --data-root where it is"
        )
    packed = PackedDataset(path)
    if packed.name != dataset.name:
        raise UserError(f"{path} holds {packed.name}, not {dataset.name}: give another --data-root or data set")
    if long and packed.segments is None:
        raise UserError(
            f"{path} holds clips; detection takes long recordings with segments (data_gen/pku_gendata.py --untrimmed, "
            "data_gen.import_dataset long)"
        )
    if not long and packed.segments is not None:
        raise UserError(f"{path} holds long recordings, not clips: tools.detect and tools.timeline take them")
    for side in sides:
        if len(packed.split(protocol.name, side)) < 2:
            raise UserError(
                f"{path} has fewer than two recordings on the {side} side of {protocol.long_name}: name another "
                "protocol by --protocol, or add one with python -m data_gen.add_protocol"
            )
    return packed


def classes_of(packed: PackedDataset) -> list[str]:
    """Return the names of a data set's classes, by label: its own, else the known ones, else `A001` and so on."""
    return packed.class_names or list(class_names(packed.name)[: packed.num_classes])


def read_class_names(file: Path) -> list[str]:
    """Read the names of classes, one per line, ordered by label. Raises UserError or DataSetError if invalid."""
    names = [line.strip() for line in read_text(file, _MAX_NAMES).removesuffix("\n").split("\n")]
    if not all(map(is_one_line, names)):
        raise UserError(f"--class-names {file}: a name has control characters")
    return names


def check_class_names(names: list[str], classes: int) -> list[str]:
    """Return the names. Raises UserError if there is not one for each class."""
    if len(names) != classes:
        raise UserError(
            f"--class-names: {counted(len(names), 'name')} for {counted(classes, 'class')}; give one for each"
        )
    return names


def check_schedule(schedule: list[int], epochs: int) -> None:
    """Raise UserError if the learning rate would drop twice in an epoch, or after the last one."""
    if len(set(schedule)) < len(schedule):
        raise UserError(f"--schedule {' '.join(map(str, schedule))}: an epoch stands there twice; name each once")
    late = [at for at in schedule if at >= epochs]
    if late:
        raise UserError(
            f"--schedule {' '.join(map(str, late))}: with --epochs {epochs} the last epoch is {epochs - 1}; give "
            "earlier ones, or more epochs"
        )


def output_file(text: str) -> Path:
    """Check for argparse, before any work is done, that a file can be written. Raises argparse.ArgumentTypeError."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    try:
        check_replaceable(path)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        reason = f"{path} cannot be written: {error.strerror}" if error.strerror else str(error)
        raise argparse.ArgumentTypeError(reason) from error


def positive_int(text: str) -> int:
    return _checked(int(text), lambda v: 1 <= v <= _MOST, f"from 1 to {_MOST:,}")


def seed_number(text: str) -> int:
    return _checked(int(text), lambda v: 0 <= v < 2**32, "from 0 to 2**32 - 1")


def non_negative_int(text: str) -> int:
    return _checked(int(text), lambda v: 0 <= v <= _MOST, f"from 0 to {_MOST:,}")


def positive_float(text: str) -> float:
    return _checked(float(text), lambda v: 0 < v <= _LARGEST, f"positive and at most {_LARGEST:g}")


def non_negative_float(text: str) -> float:
    return _checked(float(text), lambda v: 0 <= v <= _LARGEST, f"from 0 to {_LARGEST:g}")


def frame_rate(text: str) -> float:
    return _checked(float(text), is_frame_rate, "from 0.01 to a million")


def fraction(text: str) -> float:
    return _checked(float(text), lambda v: 0 < v <= 1, "above 0 and at most 1")


def _checked(value: Number, is_right: Callable[[Number], bool], what: str) -> Number:
    if not is_right(value):
        raise argparse.ArgumentTypeError(f"{value} is not {what}")
    return value

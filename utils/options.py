"""Define options that several programs share, without importing PyTorch."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from utils.errors import UserError
from utils.files import read_text
from utils.text import counted

Number = TypeVar("Number", int, float)
PLACES = "a packed data set, or .skeleton, .csv and .npy files and folders and zip archives of them"
_LARGEST = 10**9


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Add the default to each help line that does not state it; keep line breaks in the description and epilog."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def make_parser(doc: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """Make a program's parser; the description is the program's docstring."""
    return argparse.ArgumentParser(description=doc, epilog=epilog, formatter_class=HelpFormatter)


def add_data_options(
    parser: argparse.ArgumentParser, dataset_flag: str, data_root: Path, several: bool = False
) -> None:
    """Add the options that choose a data set and protocol; `several`: one or more data sets."""
    parser.add_argument(
        dataset_flag,
        dest="dataset",
        metavar="NAME",
        nargs="+" if several else None,
        help="data set: ntu60, ntu120, pku1, pku2, demo, or another in --data-root; default: "
        + ("by the name of --checkpoint-path" if several else "the checkpoint's own"),
    )
    parser.add_argument(
        "--protocol",
        help="protocol: cross_subject, cross_view, cross_setup (or xsub, xview, xsetup), one of the data set's own, or "
        "all (train on every recording); default: by the name of the run's folder, else the data set's first",
    )
    root = "folder of packed data sets, or one packed data set"
    parser.add_argument("--data-root", type=Path, default=data_root, help=root)
    add_device_option(parser)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="device to compute on")


def add_workers_option(parser: argparse.ArgumentParser, default: int) -> None:
    workers = "number of processes (default: one per core)"
    parser.add_argument("--workers", type=positive_int, default=default, metavar="N", help=workers)


def add_pretrained_option(parser: argparse.ArgumentParser) -> None:
    what = "checkpoint, fine-tuned model or exported .safetensors; or a run's folder or name, for its last checkpoint"
    parser.add_argument("--pretrained", required=True, metavar="CKPT", help=what)


def add_representation_options(parser: argparse.ArgumentParser) -> None:
    """Add --modality, --centre and --standardise of the evaluations."""
    parser.add_argument(
        "--modality",
        nargs="+",
        default=["all"],
        metavar="M",
        help="all (fused), one modality, a fusion such as joint+bone or, of the frozen encoder, ensemble (the fused "
        "feature and each modality's own, concatenated); several are evaluated in one pass; default: all",
    )
    centred = "also evaluate features minus their mean on the train split"
    parser.add_argument("--centre", action="store_true", help=centred)
    standardised = "also evaluate features with mean 0 and deviation 1 in each dimension on the train split"
    parser.add_argument("--standardise", action="store_true", help=standardised)


def add_modality_option(
    parser: argparse.ArgumentParser, default: str | None, ensemble: bool = True, otherwise: str = ""
) -> None:
    """Add --modality; its value is checked against the encoder's modalities when the encoder is opened. `otherwise`:
    says what is used without a default."""
    text = "all (fused), one modality, a fusion such as joint+bone"
    text += ", or ensemble (the fused feature and each modality's own, concatenated)" if ensemble else ""
    parser.add_argument("--modality", default=default, metavar="M", help=f"{text}; default: {default or otherwise}")


def add_skeleton_option(parser: argparse.ArgumentParser) -> None:
    skeleton = "joints of .csv and .npy recordings; default: the skeleton.json beside them, else the encoder's"
    parser.add_argument("--skeleton", metavar="NAME|FILE", help=skeleton)


def add_query_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of programs that answer for each recording."""
    add_pretrained_option(parser)
    parser.add_argument("recordings", type=Path, nargs="+", metavar="RECORDING", help=PLACES)
    add_skeleton_option(parser)
    parser.add_argument("--json", action="store_true", help="print a line of JSON per recording instead of a table")
    add_device_option(parser)


def add_training_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --amp and --compile."""
    parser.add_argument(
        "--amp",
        choices=("bf16", "fp16", "off"),
        help=f"precision of {what}; default: bf16 on a GPU that has it, fp16 on others, off on a CPU",
    )
    parser.add_argument(
        "--compile",
        choices=("auto", "on", "off"),
        nargs="?",
        const="on",
        default="auto",
        help="torch.compile, which takes about a minute at the start; auto: on a GPU, for batch sizes of many steps",
    )


def check_milestones(milestones: list[int], epochs: int) -> None:
    """Raise UserError for a --schedule that names an epoch twice, or one that does not come."""
    if len(set(milestones)) < len(milestones):
        raise UserError(f"--schedule {' '.join(map(str, milestones))}: duplicate epoch")
    if late := [epoch for epoch in milestones if epoch >= epochs]:
        raise UserError(f"--schedule {late[0]}: the last of --epochs {epochs} is {epochs - 1}")


def read_class_names(path: Path, count: int) -> list[str]:
    """Read the names of `count` classes, one per line. Raises UserError if there are more or fewer."""
    names = [name for line in read_text(path).splitlines() if (name := line.strip())]
    if len(names) != count:
        raise UserError(f"{path}: {counted(len(names), 'name')} for {counted(count, 'class')}; give one per line")
    return names


def output_file(text: str) -> Path:
    """Check for argparse, before any work is done, that a file can be written."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file")
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            return path
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be written: {error.strerror}") from error


def positive_int(text: str) -> int:
    return _checked(int(text), lambda v: 1 <= v <= _LARGEST, f"from 1 to {_LARGEST:,}")


def non_negative_int(text: str) -> int:
    return _checked(int(text), lambda v: 0 <= v <= _LARGEST, f"from 0 to {_LARGEST:,}")


def positive_float(text: str) -> float:
    return _checked(float(text), lambda v: 0 < v < float("inf"), "positive and finite")


def non_negative_float(text: str) -> float:
    return _checked(float(text), lambda v: 0 <= v < float("inf"), "at least 0 and finite")


def fraction(text: str) -> float:
    return _checked(float(text), lambda v: 0 < v <= 1, "above 0 and at most 1")


def unique(values: Iterable[Number] | None) -> list[Number]:
    """Return the values without repetitions, in order."""
    return list(dict.fromkeys(values or ()))


def _checked(value: Number, is_right: Callable[[Number], bool], what: str) -> Number:
    if not is_right(value):
        raise argparse.ArgumentTypeError(f"{value} is not {what}")
    return value

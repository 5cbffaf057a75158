"""What the conversion programs share: the error that lists bad recordings, the report and flags."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_gen.datasets import DataSet
from data_gen.packed.info import SIDES, UNLABELLED, DataSetError
from data_gen.packed.words import counted
from data_gen.raw.normalise import in_unit
from data_gen.raw.workers import num_cores

_MAX_LISTED = 100


class BadRecordings(DataSetError):
    """Recordings, or other parts of the raw data, that cannot be converted; `bad` maps each one to its reason."""

    def __init__(self, bad: dict[str, str], what: str = "recording"):
        self.bad = bad
        super().__init__(
            f"{counted(len(bad), what)} cannot be converted, nothing was written:\n"
            + "\n".join(reason_lines(bad, "  "))
            + "\nMend or remove them, or pass --skip-bad to leave them out."
        )


def reason_lines(reasons: dict[str, str], indent: str) -> list[str]:
    """Make one line per entry, at most a hundred."""
    lines = [f"{indent}{name}: {reason}" for name, reason in list(reasons.items())[:_MAX_LISTED]]
    if len(reasons) > _MAX_LISTED:
        lines.append(f"{indent}... and {len(reasons) - _MAX_LISTED} more")
    return lines


def count_lines(dataset: DataSet, out: Path, info: dict) -> list[str]:
    """Report the counts in dataset.json beside the published ones: a line for the data set, one per protocol."""
    recordings, frames = counted(info["recordings"], "recording"), counted(info["frames"], "frame")
    has_labels = info.get("class_names") != [UNLABELLED]
    classes = f"of {counted(info['classes'], 'class')}" if has_labels else "without labels"
    lines = [f"{dataset.title}: {recordings} {classes}, {frames} in {out}"]
    for name, counts in info["protocols"].items():
        protocol = dataset.protocol(name)
        line = f"  {protocol.title}: {counts['train']:,} train, {counts['val']:,} val"
        rule = f" ({counts['rule']})" if "rule" in counts else ""
        lines.append(line + rule + in_brackets(protocol.published_counts))
        if not all(counts[side] for side in SIDES):
            lines.append(f"  warning: {name} cannot be used: it has no train or no val recordings")
    return lines


def in_brackets(counts: tuple[int, ...] | None) -> str:
    """Format published counts, if there are any."""
    return f" (published: {' / '.join(f'{n:,}' for n in counts)})" if counts else ""


def warning_lines(out: Path, info: dict, what: str = "recording") -> list[str]:
    """Warn of recordings without a body, of ones that are not in metres and of what was skipped, as dataset.json lists
    them."""
    lines = []
    if empty := info["without_a_body"]:
        without = counted(len(empty), "recording") + " without a body in any frame"
        lines.append(f"  warning: {without}, kept as zeros: {first_names(empty)}")
    for unit, names in info.get("too_large", {}).items():
        lines.append(f"  warning: in {counted(len(names), 'recording')} {in_unit(unit)}: {first_names(names)}")
    if info.get("skipped"):
        lines.append(
            f"  warning: {counted(len(info['skipped']), f'bad {what}')} skipped (reasons in {out / 'dataset.json'}):"
        )
        lines += reason_lines(info["skipped"], "    ")
    return lines


def first_names(names: list[str]) -> str:
    """List the first five names."""
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def parse_arguments(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Add `--workers` and `--skip-bad` and parse the arguments."""
    add_workers_option(parser)
    parser.add_argument("--skip-bad", action="store_true", help="leave bad recordings out instead of stopping")
    return parser.parse_args(argv)


def add_workers_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=_workers, default=num_cores(), metavar="N", help="number of processes (default: one a core)"
    )


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 5 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes, from 1 to 9999")
    return int(text)

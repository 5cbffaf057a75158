"""Reports, errors and flags that the conversion programs share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from data_gen.datasets import DATA_ROOT, DataSet
from data_gen.packed.reader import INFO, SPLITS, UNLABELLED
from data_gen.raw.normalise import in_unit
from utils.errors import UserError
from utils.options import add_workers_option, make_parser
from utils.processes import num_cores
from utils.text import counted, first_names

_MAX_LISTED = 100


def conversion_parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser with the flags --out, --workers and --skip-bad."""
    parser = make_parser(doc)
    parser.add_argument("--out", type=Path, help="folder of the packed data set (default: data/DATASET)")
    add_workers_option(parser, num_cores())
    parser.add_argument("--skip-bad", action="store_true", help="leave bad recordings out instead of stopping")
    return parser


def plan_conversions(
    datasets: Sequence[DataSet], raw: list[Path], out: Path | None, flag: str
) -> list[tuple[DataSet, list[Path], Path]]:
    """List what to convert: data set, places of its raw recordings, output folder. Without `raw`, all data sets whose
    first folder is in data/; `flag` chooses one."""
    if raw and len(datasets) > 1:
        raise UserError(f"--raw needs {flag}, to say what the recordings are")
    plan = []
    for dataset in datasets:
        places = [DATA_ROOT / folder for folder in dataset.raw]
        if raw or places[0].is_dir():
            present = [place for place in places if place.is_dir()]
            plan.append((dataset, raw or present, out or DATA_ROOT / dataset.name))
    if not plan:
        folders = ", ".join(str(DATA_ROOT / dataset.raw[0]) for dataset in datasets)
        raise UserError(f"no raw recordings at {folders}; put them there or name their place by {flag} and --raw")
    if out and len(plan) > 1:
        raise UserError(f"--out needs {flag}: several data sets cannot share one folder")
    return plan


def bad_recordings(bad: dict[str, str], what: str = "recording") -> UserError:
    """Make the error that lists recordings, or other parts of the raw data, that cannot be converted, with reasons."""
    lines = [f"{counted(len(bad), what)} cannot be converted, nothing was written:"]
    lines += reason_lines(dict(sorted(bad.items())), "  ")
    return UserError("\n".join([*lines, "Mend or remove them, or pass --skip-bad to leave them out."]))


def reason_lines(reasons: dict[str, str], indent: str = "    ") -> list[str]:
    """Make one line per entry, at most a hundred."""
    lines = [f"{indent}{name}: {reason}" for name, reason in list(reasons.items())[:_MAX_LISTED]]
    return lines + [f"{indent}... and {len(reasons) - _MAX_LISTED} more"] * (len(reasons) > _MAX_LISTED)


def count_lines(dataset: DataSet, out: Path, info: dict) -> list[str]:
    """Report the counts in dataset.json beside the published ones: a line for the data set, one per protocol."""
    recordings, frames = counted(info["recordings"], "recording"), counted(info["frames"], "frame")
    has_labels = info.get("class_names") != [UNLABELLED]
    classes = f"of {counted(info['classes'], 'class')}" if has_labels else "without labels"
    lines = [f"{dataset.title}: {recordings} {classes}, {frames} in {out}"]
    for name, counts in info["protocols"].items():
        protocol = dataset.protocol(name)
        rule = f" ({counts['rule']})" if "rule" in counts else ""
        line = f"  {protocol.title}: {counts['train']:,} train, {counts['val']:,} val{rule}"
        lines.append(line + in_brackets(protocol.published_counts))
        if not all(counts[split] for split in SPLITS):
            lines.append(f"  warning: {name} cannot be used: it has no train or no val recordings")
    return lines


def in_brackets(counts: tuple[int, ...] | None) -> str:
    """Format published counts, if there are any."""
    return f" (published: {' / '.join(f'{n:,}' for n in counts)})" if counts else ""


def warning_lines(out: Path, info: dict, what: str = "recording") -> list[str]:
    """Warn of recordings without a body, of ones that are not in metres and of skipped ones, by dataset.json."""
    lines = []
    if empty := info["without_a_body"]:
        without = f"{counted(len(empty), 'recording')} without a body in any frame"
        lines.append(f"  warning: {without}, kept as zeros: {first_names(empty)}")
    for unit, names in info.get("too_large", {}).items():
        lines.append(f"  warning: in {counted(len(names), 'recording')} {in_unit(unit)}: {first_names(names)}")
    if skipped := info.get("skipped"):
        lines.append(f"  warning: {counted(len(skipped), f'bad {what}')} skipped (reasons in {out / INFO}):")
        lines += reason_lines(skipped)
    return lines

"""Add protocols to a packed data set.

python -m data_gen.add_protocol data/ntu60 --split young=subject:1,2,5 --split fold=kfold:5
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from data_gen.datasets import row_of
from data_gen.packed.protocols import Rule, Table, derive, parse_split
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.packed.writer import describe, index_arrays, write_files
from utils.errors import UserError
from utils.files import atomic_files, locked
from utils.processes import run


def add_protocols(folder: Path, rules: list[Rule]) -> dict[str, dict]:
    """Add protocols to the packed data set in `folder`. Return their entries in dataset.json.

    Raises UserError if a rule does not fit or a protocol of its name exists; then nothing has changed.
    """
    PackedDataset(folder)  # locking would make a missing folder
    with locked(folder):
        packed = PackedDataset(folder)
        splits, made_by = derive(rules, Table.of_dataset(packed))
        taken = {name for p in row_of(packed.info).protocols for name in (p.name, p.long_name)}
        for name in splits:
            if name in taken:
                raise UserError(f"{folder} has a protocol {name} already; choose another name")
        added = describe(splits, made_by)
        info = packed.info | {"protocols": packed.info["protocols"] | added}
        arrays = {stem: array for name, sides in splits.items() for stem, array in index_arrays(name, sides).items()}
        with atomic_files(folder, last=INFO) as partial:  # files that dataset.json does not name do not count
            write_files(partial, arrays, info)
    return added


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the packed data set")
    parser.add_argument(
        "--split",
        action="append",
        required=True,
        metavar="NAME=RULE",
        help="RULE is subject:1,2,5 or camera:2,3 (train on these), names:FILE (train on the recordings listed there), "
        "or kfold:5 (five protocols NAME1 to NAME5, each validating on another fifth of the subjects)",
    )
    for report in _add(parser.parse_args(argv)):
        print(report)


def _add(args: argparse.Namespace) -> Iterator[str]:
    added = add_protocols(args.folder, [parse_split(text) for text in args.split])
    for name, entry in added.items():
        yield f"{name} ({entry['rule']}): {entry['train']:,} train, {entry['val']:,} val in {args.folder}"


if __name__ == "__main__":
    run(main)

"""Add protocols to a packed data set.

python -m data_gen.add_protocol data/ntu60 --split young=subject:1,2,5 --split fold=kfold:5
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from data_gen.packed.atomic import atomic_files, locked
from data_gen.packed.catalogue import row_of
from data_gen.packed.info import INFO, DataSetError
from data_gen.packed.protocols import Rule, Table, derive, parse_split
from data_gen.packed.reader import PackedDataset
from data_gen.packed.writer import describe, index_arrays, write_files
from data_gen.raw.process import exit_status


def add_protocols(folder: Path, rules: list[Rule]) -> dict[str, dict]:
    """Add protocols to the packed data set in `folder`. Return their entries in dataset.json.

    Raises DataSetError if a rule does not fit or a protocol of its name exists; then nothing has changed.
    """
    PackedDataset(folder)  # locking would make a missing folder
    with locked(folder):
        packed = PackedDataset(folder)
        splits, made_by = derive(rules, Table.of_dataset(packed))
        taken = {name for p in row_of(packed.info).protocols for name in (p.name, p.long_name)}
        for name in splits:
            if name in taken:
                raise DataSetError(f"{folder} has a protocol {name} already; choose another name")
        added = describe(splits, made_by)
        info = packed.info | {"protocols": packed.info["protocols"] | added}
        arrays = {stem: array for name, sides in splits.items() for stem, array in index_arrays(name, sides).items()}
        with atomic_files(folder, last=INFO) as partial:  # files that dataset.json does not name do not count
            write_files(partial, arrays, info)
    return added


def main(argv: list[str] | None = None) -> int:
    """Run the command. Return its exit status."""
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
    return exit_status(_add(parser.parse_args(argv)))


def _add(args: argparse.Namespace) -> Iterator[str]:
    added = add_protocols(args.folder, [parse_split(text) for text in args.split])
    for name, entry in added.items():
        yield f"{name} ({entry['rule']}): {entry['train']:,} train, {entry['val']:,} val in {args.folder}"


if __name__ == "__main__":
    sys.exit(main())

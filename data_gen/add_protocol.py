"""Add protocols to a packed data set.

python -m data_gen.add_protocol data/ntu60 --split young=subject:1,2,5 --split fold=kfold:5
"""

from __future__ import annotations

from pathlib import Path

from data_gen.datasets import row_of
from data_gen.packed.protocols import Rule, Table, derive, parse_split
from data_gen.packed.reader import INFO, TABLES, PackedDataset
from data_gen.packed.writer import describe, index_arrays, write_files
from utils.errors import UserError
from utils.files import atomic_files, locked
from utils.options import make_parser
from utils.processes import run


def add_protocols(folder: Path, rules: list[Rule]) -> dict[str, dict]:
    """Add protocols to the packed data set in `folder`. Return their entries in dataset.json."""
    PackedDataset(folder)  # locking would make a missing folder
    with locked(folder):
        packed = PackedDataset(folder)
        splits, rule_texts = derive(rules, Table.of_names(packed.names.tolist(), *map(packed.table, TABLES)))
        taken = {name for p in row_of(packed.info).protocols for name in (p.name, p.long_name)}
        if again := sorted(taken & splits.keys()):
            raise UserError(f"{folder}: has a protocol {again[0]} already; choose another name")
        added = describe(splits, rule_texts)
        info = packed.info | {"protocols": packed.info["protocols"] | added}
        with atomic_files(folder, last=INFO) as partial:  # files that dataset.json does not name do not count
            write_files(partial, index_arrays(splits), info)
    return added


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the packed data set")
    rule = (
        "RULE is subject:1,2,5 or camera:2,3 (train on these), names:FILE (train on the recordings listed there), or "
        "kfold:5 (five protocols NAME1 to NAME5, each validating on another fifth of the subjects)"
    )
    parser.add_argument("--split", action="append", required=True, metavar="NAME=RULE", help=rule)
    args = parser.parse_args(argv)
    for name, entry in add_protocols(args.folder, [parse_split(text) for text in args.split]).items():
        print(f"{name} ({entry['rule']}): {entry['train']:,} train, {entry['val']:,} val in {args.folder}")


if __name__ == "__main__":
    run(main)

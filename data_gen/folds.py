"""List the runs of a cross-validation, one for each fold: `python -m data_gen.folds mine_fold`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from data_gen.datasets import DATA_ROOT, DataSet, protocols_by_name, rows_in
from utils.errors import UserError
from utils.processes import run
from utils.text import nearest_first


def folds_of(test_name: str, rows: dict[str, DataSet]) -> list[str]:
    """Name the runs of all folds: for `mine_fold_lr1` mine_fold1_lr1, mine_fold2_lr1 and so on, one for each protocol
    fold1, fold2... of the data set. Raises ValueError if it has none."""
    stems: dict[str, list[str]] = {}
    for name in protocols_by_name(rows):
        stem = re.sub(r"(?<=\D)\d+$", "", name)
        if stem != name:
            stems.setdefault(stem, []).append(name)
    fitting = [stem for stem in stems if f"{test_name}_".startswith(f"{stem}_")]
    if not fitting:
        known = nearest_first(test_name, stems) or "none"
        raise UserError(
            f"no folds are called {test_name}; known: {known}. Make some: python -m data_gen.add_protocol data/NAME "
            "--split fold=kfold:5"
        )
    stem = max(fitting, key=len)
    return [name + test_name.removeprefix(stem) for name in stems[stem]]


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("test_name", metavar="TEST_NAME", help="data set and kfold rule, such as mine_fold")
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT, help="folder that holds packed data sets")
    for report in _list(parser.parse_args(argv)):
        print(report)


def _list(args: argparse.Namespace) -> Iterator[str]:
    yield "\n".join(folds_of(args.test_name, rows_in(args.data_root)))


if __name__ == "__main__":
    run(main)

"""List the runs of a cross-validation, one for each fold: `python -m data_gen.folds mine_fold`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from data_gen.datasets import DATA_ROOT, DataSet, nearest_first, protocols_by_name
from data_gen.packed.catalogue import rows_in
from data_gen.raw.process import exit_status


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
        raise ValueError(
            f"no folds are called {test_name}; known: {known}. Make some: python -m data_gen.add_protocol data/NAME "
            "--split fold=kfold:5"
        )
    stem = max(fitting, key=len)
    return [name + test_name.removeprefix(stem) for name in stems[stem]]


def main(argv: list[str] | None = None) -> int:
    """Run the command. Return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("test_name", metavar="TEST_NAME", help="data set and kfold rule, such as mine_fold")
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT, help="folder that holds packed data sets")
    return exit_status(_list(parser.parse_args(argv)))


def _list(args: argparse.Namespace) -> Iterator[str]:
    yield "\n".join(folds_of(args.test_name, rows_in(args.data_root)))


if __name__ == "__main__":
    sys.exit(main())

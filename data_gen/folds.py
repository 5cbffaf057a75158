"""List the runs of a cross-validation, one for each fold: `python -m data_gen.folds mine_fold`."""

from __future__ import annotations

import re
from pathlib import Path

from data_gen.datasets import DATA_ROOT, DataSet, protocols_by_name, rows_in
from utils.errors import UserError
from utils.options import make_parser
from utils.processes import run
from utils.text import nearest_first


def folds_of(test_name: str, rows: dict[str, DataSet]) -> list[str]:
    """Name the runs of all folds: for `mine_fold_lr1` mine_fold1_lr1, mine_fold2_lr1 and so on, one for each protocol
    fold1, fold2... of the data set."""
    stems: dict[str, list[str]] = {}
    for name in protocols_by_name(rows):
        stem = re.sub(r"(?<=\D)\d+$", "", name)
        if stem != name:
            stems.setdefault(stem, []).append(name)
    fitting = [stem for stem in stems if f"{test_name}_".startswith(f"{stem}_")]
    if not fitting:
        raise UserError(
            f"no folds are called {test_name}, only {nearest_first(test_name, stems) or 'none'}; make some by python "
            "-m data_gen.add_protocol data/NAME --split fold=kfold:5"
        )
    stem = max(fitting, key=len)
    return [name + test_name.removeprefix(stem) for name in stems[stem]]


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("test_name", metavar="TEST_NAME", help="data set and kfold rule, such as mine_fold")
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT, help="folder of packed data sets")
    args = parser.parse_args(argv)
    print("\n".join(folds_of(args.test_name, rows_in(args.data_root))))


if __name__ == "__main__":
    run(main)

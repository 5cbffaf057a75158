"""Retrieval: classify each val recording by its nearest train recordings in the frozen encoder's space.

python action_retrieval.py --pretrained checkpoints/ntu60_xsub
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

from tools.utils.encoder_options import add_evaluation_options
from tools.utils.errors import run
from tools.utils.options import HelpFormatter, positive_int, seed_number


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_evaluation_options(parser)
    parser.add_argument(
        "--knn-neighbours",
        type=positive_int,
        nargs="+",
        metavar="K",
        help="numbers of neighbours that vote; the nearest one decides between labels that are equally frequent; the "
        "first K's accuracy is the result; default: 1 5 20, as far as the gallery has them",
    )
    seed = "kept with the result; nothing in retrieval is random"
    parser.add_argument("--seed", type=seed_number, default=0, help=seed)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from tools.evaluation.retrieval_report import report_retrieval

    report_retrieval(args)


if __name__ == "__main__":
    run(main)

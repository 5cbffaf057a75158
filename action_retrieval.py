"""Retrieval: classify each validation recording by its nearest training recordings in the frozen encoder's space.

python action_retrieval.py --pretrained checkpoints/ntu60_xsub
"""

from __future__ import annotations

import argparse
import logging

from tools.errors import UserError, run
from tools.evaluation import add_evaluation_options, prepare
from tools.metrics import accuracy
from tools.neighbours import nearest, vote
from tools.options import HelpFormatter, non_negative_int, positive_int


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_evaluation_options(parser)
    parser.add_argument(
        "--knn-neighbours",
        type=positive_int,
        default=1,
        metavar="K",
        help="neighbours that vote; of labels equally frequent, that of the nearest among them wins",
    )
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="kept with the result; nothing in retrieval is random"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    evaluation = prepare(args, "action_retrieval")
    gallery, gallery_labels = evaluation.train
    queries, labels = evaluation.val
    if args.knn_neighbours > len(gallery):
        raise UserError(f"--knn-neighbours {args.knn_neighbours}: the gallery has only {len(gallery)} recordings")
    neighbours = gallery_labels[nearest(queries, gallery, args.knn_neighbours)]
    top1 = accuracy(vote(neighbours, evaluation.num_classes), labels)
    tag = evaluation.task.replace("action_", "")
    curves = {f"{tag}/top1_k{args.knn_neighbours}": [(evaluation.result["epoch"] or 0, top1)]}
    path = evaluation.finish({"k": args.knn_neighbours, "top1": top1}, curves)
    log = logging.getLogger("umurl")
    log.info(f"retrieval, {args.knn_neighbours} nearest by cosine: {top1:.2f} %")
    log.info(f"written to {path}")


if __name__ == "__main__":
    run(main)

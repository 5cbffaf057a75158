"""Retrieval: classify each validation recording by its nearest training recordings in the frozen encoder's space.

python action_retrieval.py --pretrained checkpoints/ntu60_xsub
"""

from __future__ import annotations

import argparse
import logging

from tools.evaluation.knn import retrieve, vote
from tools.evaluation.metrics import accuracy, class_accuracies
from tools.evaluation.setup import Evaluation, add_evaluation_options, prepare
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, non_negative_int, positive_int

NEIGHBOURS = (1, 5, 20)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_evaluation_options(parser)
    parser.add_argument(
        "--knn-neighbours",
        type=positive_int,
        nargs="+",
        metavar="K",
        help="neighbours that vote; of labels equally frequent, that of the nearest among them wins; the first K's "
        "accuracy is the result; default: {} {} {}, as far as the gallery has them".format(*NEIGHBOURS),
    )
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="kept with the result; nothing in retrieval is random"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    evaluation = prepare(args, "action_retrieval")
    size = len(evaluation.train_labels)
    if args.knn_neighbours and max(args.knn_neighbours) > size:
        raise UserError(f"--knn-neighbours {max(args.knn_neighbours)}: the gallery has only {size} recordings")
    args.knn_neighbours = args.knn_neighbours or [k for k in NEIGHBOURS if k <= size]
    log = logging.getLogger("umurl")
    for modality in evaluation.train:
        metrics = judge(evaluation, modality, args.knn_neighbours)
        by_k = ", ".join(f"{value:.2f} % (k = {k})" for k, value in metrics["knn"].items())
        log.info(f"retrieval, {modality}, by cosine: {by_k}, mean average precision {metrics['map']:.2f} %")
        epoch = evaluation.result["epoch"] or 0
        curves = {f"top1_k{k}": [(epoch, value)] for k, value in metrics["knn"].items()}
        path = evaluation.finish(modality, metrics, curves | {"map": [(epoch, metrics["map"])]})
        log.info(f"written to {path}")


def judge(evaluation: Evaluation, modality: str, neighbours: list[int]) -> dict:
    """Accuracy in % by the vote of each number of neighbours, per class for the first, and mean average precision."""
    labels, classes = evaluation.val_labels, evaluation.num_classes
    found, precision = retrieve(
        evaluation.val[modality], labels, evaluation.train[modality], evaluation.train_labels, max(neighbours)
    )
    found = evaluation.train_labels[found]
    predicted = {k: vote(found[:, :k], classes) for k in neighbours}
    by_k = {k: accuracy(p, labels) for k, p in predicted.items()}
    return {
        "k": neighbours[0],
        "top1": by_k[neighbours[0]],
        "per_class": class_accuracies(predicted[neighbours[0]], labels, classes),
        "knn": by_k,
        "map": 100 * precision.nanmean().item(),
    }


if __name__ == "__main__":
    run(main)

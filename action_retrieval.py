"""Retrieval: classify each validation recording by its nearest training recordings in the frozen encoder's space.

python action_retrieval.py --pretrained checkpoints/ntu60_xsub
"""

from __future__ import annotations

import argparse
import logging

from tools.evaluation.knn import retrieve, vote
from tools.evaluation.setup import add_evaluation_options, extract_sides, load_setup
from tools.utils.distributed import single_process
from tools.utils.errors import UserError, run
from tools.utils.metrics import accuracy, class_accuracies
from tools.utils.options import HelpFormatter, positive_int, seed_number

TASK = "action_retrieval"
NEIGHBOURS = (1, 5, 20)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_evaluation_options(parser)
    parser.add_argument(
        "--knn-neighbours",
        type=positive_int,
        nargs="+",
        metavar="K",
        help="numbers of neighbours that vote; the nearest one decides between labels that are equally frequent; the "
        "first K's accuracy is the result; default: {} {} {}, as far as the gallery has them".format(*NEIGHBOURS),
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="kept with the result; nothing in retrieval is random"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    setup = load_setup(args, single_process(args.device, f"{TASK}.py"))
    size = len(setup.split["train"])
    if args.knn_neighbours and max(args.knn_neighbours) > size:
        raise UserError(f"--knn-neighbours {max(args.knn_neighbours)}: the gallery has only {size} recordings")
    ks = args.knn_neighbours = args.knn_neighbours or [k for k in NEIGHBOURS if k <= size]
    setup.start_log(TASK)
    _, gallery, queries = extract_sides(setup)
    for name in gallery.features:
        found, precision = retrieve(
            queries.features[name], queries.labels, gallery.features[name], gallery.labels, max(ks)
        )
        predicted = {k: vote(gallery.labels[found[:, :k]], setup.packed.num_classes) for k in ks}
        by_k = {k: accuracy(p, queries.labels) for k, p in predicted.items()}
        metrics = {
            "k": ks[0],
            "top1": by_k[ks[0]],
            "per_class": class_accuracies(predicted[ks[0]], queries.labels, setup.packed.num_classes),
            "knn": by_k,
            "map": 100 * precision.nanmean().item(),
        }
        each = ", ".join(f"{value:.2f} % (k = {k})" for k, value in by_k.items())
        logging.getLogger("umurl").info(
            f"retrieval, {name}, by cosine: {each}, mean average precision {metrics['map']:.2f} %"
        )
        epoch = setup.result["epoch"] or 0
        curves = {f"top1_k{k}": [(epoch, value)] for k, value in by_k.items()}
        setup.write(TASK, name, metrics, curves | {"map": [(epoch, metrics["map"])]})
        neighbours = setup.packed.names[setup.split["train"]][found[:, 0].cpu().numpy()].tolist()
        precisions = [f"{value:.4f}" for value in precision.tolist()]
        more = {"nearest": neighbours, "average_precision": precisions}
        setup.write_predictions(TASK, name, predicted[ks[0]], more)


if __name__ == "__main__":
    run(main)

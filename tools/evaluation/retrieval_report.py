"""Retrieve the nearest train recordings of each val recording, and write the scores."""

from __future__ import annotations

import argparse
import logging

from tools.evaluation.knn import retrieve, vote
from tools.evaluation.setup import extract_sides, load_setup
from tools.utils.distributed import single_process
from tools.utils.errors import UserError
from tools.utils.metrics import accuracy, class_accuracies

TASK = "action_retrieval"
NEIGHBOURS = (1, 5, 20)


def report_retrieval(args: argparse.Namespace) -> None:
    """Run action_retrieval.py. Raises UserError, CheckpointError or DataSetError if an input is invalid."""
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
            "map": 100 * precision.nanmean().item() if (precision >= 0).any() else None,  # None: nothing is relevant
        }
        mean = "none" if metrics["map"] is None else f"{metrics['map']:.2f} %"
        each = ", ".join(f"{value:.2f} % (k = {k})" for k, value in by_k.items())
        logging.getLogger("umurl").info(f"retrieval, {name}, by cosine: {each}, mean average precision {mean}")
        epoch = setup.result["epoch"] or 0
        curves = {f"top1_k{k}": [(epoch, value)] for k, value in by_k.items()}
        curves |= {} if metrics["map"] is None else {"map": [(epoch, metrics["map"])]}
        setup.write(TASK, name, metrics, curves)
        neighbours = setup.packed.names[setup.split["train"]][found[:, 0].cpu().numpy()].tolist()
        precisions = [f"{value:.4f}" for value in precision.tolist()]
        more = {"nearest": neighbours, "average_precision": precisions}
        setup.write_predictions(TASK, name, predicted[ks[0]], more)

"""Retrieval: classify each val recording by its nearest train recordings in the frozen encoder's space.

python action_retrieval.py --pretrained checkpoints/ntu60_xsub
"""

from __future__ import annotations

import argparse
import logging

from data_gen.datasets import DATA_ROOT
from utils import options
from utils.errors import UserError
from utils.processes import run, single_process

TASK = "action_retrieval"
NEIGHBOURS = (1, 5, 20)
log = logging.getLogger("umurl")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    options.add_pretrained_option(parser)
    options.add_data_options(parser, "--finetune-dataset", DATA_ROOT)
    options.add_representation_options(parser)
    neighbours = "numbers of neighbours that vote; equal votes go to the nearest; default: 1 5 20, as far as there are"
    parser.add_argument("--knn-neighbours", type=options.positive_int, nargs="+", metavar="K", help=neighbours)
    seed = "recorded with the result; nothing in retrieval is random"
    parser.add_argument("--seed", type=options.non_negative_int, default=0, help=seed)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from tools.evaluation.knn import retrieve, vote
    from tools.evaluation.metrics import accuracy
    from tools.evaluation.setup import extract_splits, open_evaluation, stem_of, variants_of

    device = single_process(args.device, "action_retrieval.py")
    evaluation = open_evaluation(args.pretrained, args.dataset, args.protocol, args.data_root, device)
    size = len(evaluation.indices["train"])
    ks = options.unique(args.knn_neighbours) or [k for k in NEIGHBOURS if k <= size]
    if max(ks) > size:
        raise UserError(f"--knn-neighbours {max(ks)}: the gallery has only {size} recordings")
    evaluation.start_log(TASK)
    representations, gallery, queries = extract_splits(
        evaluation, args.modality, variants_of(args.centre, args.standardise)
    )
    for name in representations:
        neighbours, precision = retrieve(
            queries.features[name], queries.labels, gallery.features[name], gallery.labels, max(ks)
        )
        predicted = {k: vote(gallery.labels[neighbours[:, :k]], evaluation.packed.num_classes) for k in ks}
        metrics = {f"top1_k{k}" if k > 1 else "top1": accuracy(p, queries.labels) for k, p in predicted.items()}
        if (precision >= 0).any():  # else no gallery recording is of a query's class
            metrics["map"] = 100 * precision.nanmean().item()
        log.info(f"retrieval, {name}, by cosine: " + ", ".join(f"{m} {value:.2f} %" for m, value in metrics.items()))
        nearest = evaluation.packed.names[evaluation.indices["train"]][neighbours[:, 0].cpu().numpy()].tolist()
        columns = {"nearest": nearest, "average_precision": [f"{value:.4f}" for value in precision.tolist()]}
        stem = stem_of(TASK, name)
        predictions = evaluation.write_predictions(stem, predicted[ks[0]], columns)
        settings = {"knn_neighbours": ks, "seed": args.seed}
        evaluation.add(TASK, name, metrics, settings, {"predictions": predictions})
        epoch = evaluation.result["epoch"] or 0
        evaluation.plot(stem, {metric: [(epoch, value)] for metric, value in metrics.items()})


if __name__ == "__main__":
    run(main)

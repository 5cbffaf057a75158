"""Linear probe: train a linear classifier on the frozen encoder's features.

python action_recognition.py --pretrained checkpoints/ntu60_xsub
"""

from __future__ import annotations

import argparse
import logging

from tools.errors import run
from tools.evaluation import add_evaluation_options, prepare
from tools.metrics import summary
from tools.options import HelpFormatter, non_negative_int, positive_float, positive_int
from tools.probe import ProbeOptions, Validation, linear_probe

RECIPE = ProbeOptions()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_evaluation_options(parser)
    parser.add_argument("--lr", type=positive_float, default=RECIPE.lr, help="learning rate of the classifier")
    parser.add_argument("--epochs", type=positive_int, default=RECIPE.epochs, help="epochs of the classifier")
    parser.add_argument(
        "--schedule",
        type=int,
        nargs="*",
        default=list(RECIPE.schedule),
        help="epochs at which the rate drops to a tenth",
    )
    parser.add_argument("--batch-size", type=positive_int, default=RECIPE.batch_size, help="features a step")
    parser.add_argument(
        "--seed",
        type=non_negative_int,
        nargs="+",
        default=[0],
        help="seeds of initial weights and order; several run in one pass",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    evaluation = prepare(args, "action_recognition")
    options = ProbeOptions(args.lr, args.epochs, tuple(args.schedule), args.batch_size)
    validations = linear_probe(evaluation.train, evaluation.val, evaluation.num_classes, options, args.seed)
    best = [max(validations, key=lambda v, i=i: v.top1[i]) for i in range(len(args.seed))]
    last = [validations[-1]] * len(args.seed)
    metrics = {"best": _summaries(best), "last": _summaries(last)}
    tag = evaluation.task.replace("action_", "")
    curves = {
        f"{tag}/{name}_seed{seed}": [(v.epoch, getattr(v, name)[i]) for v in validations]
        for i, seed in enumerate(args.seed)
        for name in ("top1", "top5", "loss")
    }
    history = [vars(v) for v in validations]
    path = evaluation.finish(metrics | {"history": history}, curves)
    log = logging.getLogger("umurl")
    for name, m in metrics.items():
        log.info(f"linear probe, {name}: top-1 {_text(m['top1'])} %, top-5 {_text(m['top5'])} %")
    log.info(f"written to {path}")


def _summaries(validations: list[Validation]) -> dict:
    """One validation a seed, in the seeds' order."""
    return {
        "epoch": [v.epoch for v in validations],
        "top1": summary([v.top1[i] for i, v in enumerate(validations)]),
        "top5": summary([v.top5[i] for i, v in enumerate(validations)]),
    }


def _text(s: dict) -> str:
    return f"{s['mean']:.2f}" + (f" ± {s['std']:.2f}" if len(s["per_seed"]) > 1 else "")


if __name__ == "__main__":
    run(main)

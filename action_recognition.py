"""Linear probe: train a linear classifier on the frozen encoder's features.

python action_recognition.py --pretrained checkpoints/ntu60_xsub
"""

from __future__ import annotations

import argparse
import logging

from tools.errors import run
from tools.evaluation import add_evaluation_options, prepare
from tools.metrics import summary
from tools.options import HelpFormatter, check_schedule, non_negative_int, positive_float, positive_int
from tools.probe import ProbeOptions, Validation, linear_probe

RECIPE = ProbeOptions()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_evaluation_options(parser)
    parser.add_argument(
        "--lr",
        type=positive_float,
        nargs="+",
        default=list(RECIPE.rates),
        help="learning rates of the classifier; several run in one pass, the first one's scores are the result",
    )
    parser.add_argument("--epochs", type=positive_int, default=RECIPE.epochs, help="epochs of the classifier")
    parser.add_argument(
        "--schedule",
        type=non_negative_int,
        nargs="*",
        help="epochs at which the rate drops to a tenth; default: {} {}".format(*RECIPE.schedule),
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
    rates, seeds = list(dict.fromkeys(args.lr)), args.seed
    if args.schedule is None:
        args.schedule = list(RECIPE.schedule)
    else:
        check_schedule(args.schedule, args.epochs)
    evaluation = prepare(args, "action_recognition")
    options = ProbeOptions(tuple(rates), args.epochs, tuple(args.schedule), args.batch_size)
    validations = linear_probe(evaluation.train, evaluation.val, evaluation.num_classes, options, seeds)
    log, tag = logging.getLogger("umurl"), evaluation.task.replace("action_", "")
    scores, curves = [], {}
    for i, lr in enumerate(rates):
        runs = range(i * len(seeds), (i + 1) * len(seeds))
        best = [_best(validations, n) for n in runs]
        last = [validations[-1]] * len(seeds)
        scores.append({"lr": lr, "best": _summaries(best, runs), "last": _summaries(last, runs)})
        which = f"_lr{lr:g}" * (len(rates) > 1)
        for name in ("top1", "top5", "loss"):
            for seed, n in zip(seeds, runs):
                curves[f"{tag}/{name}_seed{seed}{which}"] = [(v.epoch, getattr(v, name)[n]) for v in validations]
        for name in ("best", "last"):
            top1, top5 = (_text(scores[i][name][k]) for k in ("top1", "top5"))
            log.info(f"linear probe, rate {lr:g}{_mark(lr)}, {name}: top-1 {top1} %, top-5 {top5} %")
    result = scores[0] | ({"rates": scores} if len(rates) > 1 else {}) | {"history": [vars(v) for v in validations]}
    log.info(f"written to {evaluation.finish(result, curves)}")


def _best(validations: list[Validation], run: int) -> Validation:
    return max(validations, key=lambda v: v.top1[run])


def _mark(lr: float) -> str:
    return " (the published recipe)" if lr == RECIPE.rates[0] else ""


def _summaries(validations: list[Validation], runs: range) -> dict:
    """Of one validation a run, each of another seed."""
    return {
        "epoch": [v.epoch for v in validations],
        "top1": summary([v.top1[run] for v, run in zip(validations, runs)]),
        "top5": summary([v.top5[run] for v, run in zip(validations, runs)]),
    }


def _text(s: dict) -> str:
    return f"{s['mean']:.2f}" + (f" ± {s['std']:.2f}" if len(s["per_seed"]) > 1 else "")


if __name__ == "__main__":
    run(main)

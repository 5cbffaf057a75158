"""Recognition: a linear classifier on the frozen encoder's features, or fine-tuned together with the encoder.

    python action_recognition.py --pretrained checkpoints/ntu60_xsub                linear probe
    python action_recognition.py --pretrained checkpoints/ntu60_xsub --finetune     fine-tuning

With --observed 0.1 0.2 ... 1, the probe is also scored on the first tenth of each clip, the first two tenths and so on.

Fine-tuning also runs in several processes, as pretrain.py does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

from data_gen.recipes import FINETUNE, LINEAR_PROBE
from feeder.modality_names import ENSEMBLE
from tools.utils.encoder_options import add_amp_option, add_compile_option, add_evaluation_options
from tools.utils.errors import UserError, run
from tools.utils.options import (
    HelpFormatter,
    check_schedule,
    fraction,
    non_negative_int,
    positive_float,
    positive_int,
    seed_number,
)

FEW_LABEL_SEEDS = range(5)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_evaluation_options(parser)
    parser.add_argument(
        "--finetune", action="store_true", help="train the encoder together with the classifier, instead of a probe"
    )
    parser.add_argument(
        "--label-fraction",
        type=fraction,
        nargs="+",
        metavar="F",
        help="with --finetune: train on this fraction of each class's recordings, such as 0.01, chosen by the seed; "
        "several fractions run one after the other; default: all recordings",
    )
    scratch = "with --finetune: start from an untrained encoder of the same width, for comparison"
    parser.add_argument("--from-scratch", action="store_true", help=scratch)
    observed = "of the probe: recognise from the first fraction of each clip, too, such as 0.1 0.2 0.5 1"
    parser.add_argument("--observed", type=fraction, nargs="+", metavar="F", help=observed)
    add_amp_option(parser, "the model, with --finetune")
    add_compile_option(parser)
    parser.add_argument(
        "--lr",
        type=positive_float,
        nargs="+",
        help="learning rate; the probe takes several in one pass, and the first one's scores are the result; "
        f"default: {LINEAR_PROBE.lr:g}, with --finetune {FINETUNE.lr:g}",
    )
    epochs = f"epochs of training; default: {LINEAR_PROBE.epochs}, with --finetune {FINETUNE.epochs}"
    parser.add_argument("--epochs", type=positive_int, help=epochs)
    schedule = "epochs at which the rate drops to a tenth; default: {} {}, with --finetune {} {}"
    schedule = schedule.format(*LINEAR_PROBE.schedule, *FINETUNE.schedule)
    parser.add_argument("--schedule", type=non_negative_int, nargs="*", help=schedule)
    sizes = f"default: {LINEAR_PROBE.batch_size}, with --finetune {FINETUNE.batch_size}"
    parser.add_argument("--batch-size", type=positive_int, help=f"recordings a step, of all processes; {sizes}")
    parser.add_argument(
        "--seed",
        type=seed_number,
        nargs="+",
        help="seeds of the initial weights, the order and, with --label-fraction, the recordings used; "
        f"default: 0, with --label-fraction {FEW_LABEL_SEEDS[0]} to {FEW_LABEL_SEEDS[-1]}",
    )
    return parser.parse_args(argv)


def complete_args(args: argparse.Namespace) -> None:
    """Take from the recipe what no flag sets, and refuse contradictions. Raises UserError."""
    if args.finetune and (args.centre or args.standardise or ENSEMBLE in args.modality):
        raise UserError(
            f"--modality {ENSEMBLE}, --centre and --standardise are for the frozen encoder: leave out --finetune"
        )
    for name, unset in (("label_fraction", None), ("from_scratch", False), ("amp", None), ("compile", "auto")):
        if getattr(args, name) != unset and not args.finetune:
            raise UserError(f"--{name.replace('_', '-')} is for fine-tuning: give --finetune too")
    if args.observed and args.finetune:
        raise UserError("--observed is for the linear probe: leave out --finetune")
    args.observed = sorted(set(args.observed or ()))
    recipe = FINETUNE if args.finetune else LINEAR_PROBE
    args.epochs = args.epochs or recipe.epochs
    if args.schedule is None:
        args.schedule = list(recipe.schedule)
    else:
        check_schedule(args.schedule, args.epochs)
    args.batch_size = args.batch_size or recipe.batch_size
    args.lr = list(dict.fromkeys(args.lr or [recipe.lr]))
    if args.finetune and len(args.lr) > 1:
        raise UserError(f"--lr {' '.join(f'{lr:g}' for lr in args.lr)}: --finetune takes one rate a run")
    args.label_fraction = list(dict.fromkeys(args.label_fraction or ()))
    args.seed = args.seed or (list(FEW_LABEL_SEEDS) if args.label_fraction else [0])


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    complete_args(args)
    if args.finetune:
        from tools.evaluation.finetune_report import report_finetuning

        report_finetuning(args)
    else:
        from tools.evaluation.probe_report import report_probe

        report_probe(args)


if __name__ == "__main__":
    run(main)

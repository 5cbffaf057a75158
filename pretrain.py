"""Pre-train the unified encoder without labels (docs/method.md, 3 to 7).

    python pretrain.py --checkpoint-path checkpoints/ntu60_xsub                                one process
    torchrun --standalone --nproc_per_node=8 pretrain.py --checkpoint-path checkpoints/...     one per GPU

Run again, the same command goes on from the last checkpoint in that folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

from data_gen.datasets import DATASETS, DataSet, Protocol, protocols_by_name
from data_gen.packed.info import ALL, SIDES
from data_gen.recipes import OWN, RECIPES, Weights
from feeder.modality_names import MODALITIES
from tools.utils.encoder_options import add_amp_option, add_compile_option
from tools.utils.errors import UserError, run
from tools.utils.options import (
    HelpFormatter,
    add_data_options,
    check_schedule,
    choose_data,
    non_negative_float,
    non_negative_int,
    open_dataset,
    positive_float,
    positive_int,
    seed_number,
)
from tools.utils.tables import table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__ and __doc__.splitlines()[0], epilog=recipes_table(), formatter_class=HelpFormatter
    )
    parser.add_argument(
        "--checkpoint-path", type=Path, required=True, metavar="DIR", help="folder of the run: checkpoints, logs"
    )
    add_data_options(parser, "--pre-dataset")
    parser.add_argument(
        "--epochs", type=non_negative_int, help="epochs in all; 0 saves the untrained encoder; default: the recipe"
    )
    schedule = "epochs at which the rate drops to a tenth; default: the recipe"
    parser.add_argument("--schedule", type=non_negative_int, nargs="*", help=schedule)
    parser.add_argument("--lr", type=positive_float, help="learning rate of Adam; default: the recipe")
    parser.add_argument("--wd", type=non_negative_float, default=1e-5, help="weight decay (L2, as in Adam)")
    parser.add_argument("--batch-size", type=positive_int, help="clips a step, of all processes; default: the recipe")
    parser.add_argument("--hidden-size", type=positive_int, help="width of the encoder; default: the recipe")
    add_amp_option(parser, "the model (the objective is float32)")
    tuned = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in RECIPES["tuned"].items())
    recipe = f"where no flag says otherwise: the recipe below and the published weights; tuned: {tuned} instead"
    parser.add_argument("--recipe", choices=list(RECIPES), default="published", help=recipe)
    add_objective_options(parser)
    add_compile_option(parser)
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|none|FILE",
        help="auto: go on from the newest readable checkpoint of the run; none: remove its checkpoints and start anew",
    )
    save_freq = "epochs between checkpoints; the last one is always saved; default: the recipe"
    parser.add_argument("--save-freq", type=positive_int, help=save_freq)
    parser.add_argument("--keep", type=positive_int, metavar="N", help="keep the newest N checkpoints; default: all")
    knn = "every N epochs and after the last, log 1-NN accuracy on the val side (knn/top1); training stays the same"
    parser.add_argument("--knn-every", type=positive_int, metavar="N", help=knn)
    parser.add_argument("--seed", type=seed_number, default=0, help="of initial weights, data order and augmentations")
    return parser.parse_args(argv)


def recipes_table() -> str:
    """Make the table of the protocols' recipes, for --help."""
    recipes = {name: protocol.recipe for name, (_, protocol) in protocols_by_name(DATASETS).items()}
    rows = [
        [name, *(" ".join(map(str, v)) if isinstance(v, tuple) else f"{v:g}" for v in vars(recipe).values())]
        for name, recipe in (recipes | {"data sets of your own": OWN}).items()
    ]
    return "recipes:\n" + table(["protocol", *(name.replace("_", " ") for name in vars(OWN))], rows)


def add_objective_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the paper's ablations vary."""
    parser.add_argument(
        "--objective",
        choices=("umurl", "baseline"),
        default="umurl",
        help="umurl, or the simple baseline of the paper's ablation: two views fused early, one projector",
    )
    for name, what in (
        ("intra", "consistency within a modality; of the baseline: of its two views"),
        ("inter", "consistency between modalities"),
        ("std", "deviation of each projection"),
        ("cov", "covariance of each projection"),
    ):
        weight = f"weight of the {what}; default: {getattr(Weights(), name):g}, or the recipe"
        parser.add_argument(f"--{name}-weight", type=non_negative_float, metavar="W", help=weight)
    what = "the modalities that are used, each in a stream of its own and all fused"
    parser.add_argument("--pretrain-modalities", nargs="+", choices=MODALITIES, default=list(MODALITIES), help=what)


def complete_args(args: argparse.Namespace) -> list[tuple[DataSet, Protocol]]:
    """Fill in what the flags left to the recipe, and refuse contradictions. Return the data sets to train on, and
    their protocols. Raises UserError."""
    names = args.dataset or [None]
    protocol = args.protocol or (ALL if len(names) > 1 else None)
    test_name = args.checkpoint_path.resolve().name
    sources = [choose_data(name, protocol, test_name, args.data_root) for name in dict.fromkeys(names)]
    args.dataset, args.protocol = "+".join(dataset.name for dataset, _ in sources), sources[0][1].name
    if args.objective == "baseline" and args.inter_weight is not None:
        raise UserError("--inter-weight: the baseline has no term between modalities; leave it out")
    schedule_is_given = args.schedule is not None
    weights = {f"{name}_weight": value for name, value in vars(Weights()).items()}
    for name, value in (vars(sources[0][1].recipe) | weights | RECIPES[args.recipe]).items():
        if getattr(args, name) is None:
            setattr(args, name, list(value) if isinstance(value, tuple) else value)
    if schedule_is_given:
        check_schedule(args.schedule, args.epochs)
    if args.batch_size < 2:
        raise UserError(f"--batch-size {args.batch_size}: the objective needs at least 2 clips a batch")
    args.pretrain_modalities = [m for m in MODALITIES if m in args.pretrain_modalities]
    if args.hidden_size % 2:
        raise UserError(f"--hidden-size {args.hidden_size}: the position code needs an even number")
    if args.knn_every and len(sources) > 1:
        raise UserError("--knn-every takes one data set to pre-train on")
    return sources


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    sides = SIDES if args.knn_every else ["train"]
    sources = [(open_dataset(args.data_root, *source, sides), source[1]) for source in complete_args(args)]

    from tools.evaluation.neighbour_accuracy import neighbour_accuracy
    from tools.training.pretraining import pretrain

    pretrain(args, sources, neighbour_accuracy)


if __name__ == "__main__":
    run(main)

"""Train a detector of actions in long recordings on top of an encoder, and measure it.

python -m tools.detect --pretrained checkpoints/pku1_xsub                   a Linear on the frozen encoder
python -m tools.detect --pretrained checkpoints/pku1_xsub --finetune        the encoder, too
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from tools.detection.decoding import DETECTOR_THRESHOLD
from tools.utils.encoder_options import add_pretrained_option, modality_name
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, add_data_options, fraction, positive_float, positive_int, seed_number

FROZEN_LR, FINETUNE_LR = 1e-2, 1e-3


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_pretrained_option(parser)
    add_data_options(parser, "--finetune-dataset")
    parser.add_argument("--modality", type=modality_name, default="all", help="all, one modality, or a fusion of some")
    parser.add_argument("--finetune", action="store_true", help="train the encoder, too")
    parser.add_argument("--window", type=positive_int, default=64, help="frames per window")
    stride = "frames between the starts of windows; default: a quarter of the window"
    parser.add_argument("--stride", type=positive_int, help=stride)
    parser.add_argument(
        "--threshold", type=fraction, default=DETECTOR_THRESHOLD, help="least score of an action's frame"
    )
    parser.add_argument("--shortest", type=positive_int, default=15, help="least length of an action, in frames")
    parser.add_argument("--lr", type=positive_float, help=f"default: {FROZEN_LR:g}, with --finetune {FINETUNE_LR:g}")
    parser.add_argument("--epochs", type=positive_int, default=20, help="epochs of training")
    parser.add_argument("--batch-size", type=positive_int, default=64, help="windows per step")
    parser.add_argument("--seed", type=seed_number, default=0, help="seed of the weights and of the order")
    args = parser.parse_args(argv)
    args.stride = args.stride or max(1, args.window // 4)
    args.lr = args.lr or (FINETUNE_LR if args.finetune else FROZEN_LR)
    if args.stride > args.window:
        raise UserError(f"--stride {args.stride} leaves frames between windows of {args.window}: give at most that")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from tools.detection.report import report_detection

    report_detection(args)


if __name__ == "__main__":
    run(main)

"""Train a detector of actions in long recordings on top of an encoder, and measure it.

python -m tools.detect --pretrained checkpoints/pku1_xsub                   a Linear on the frozen encoder
python -m tools.detect --pretrained checkpoints/pku1_xsub --finetune        the encoder, too
"""

from __future__ import annotations

import argparse
import logging
from typing import Any

from data_gen.datasets import DATA_ROOT, classes_of
from utils import options
from utils.logs import progress
from utils.processes import run, single_process

TASK = "detection"
FROZEN_LR, FINETUNE_LR = 1e-2, 1e-3
log = logging.getLogger("umurl")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    add = parser.add_argument
    options.add_pretrained_option(parser)
    options.add_data_options(parser, "--finetune-dataset", DATA_ROOT)
    options.add_modality_option(parser, "all", ensemble=False)
    add("--finetune", action="store_true", help="train the encoder, too")
    add("--window", type=options.positive_int, default=64, help="frames per window")
    stride = "frames between the starts of windows; default: a quarter of the window"
    add("--stride", type=options.positive_int, help=stride)
    add("--threshold", type=options.fraction, default=0.2, help="minimum score of an action's frame")
    shortest = "minimum length of an action, and maximum of a gap in one, in frames"
    add("--shortest", type=options.positive_int, default=15, help=shortest)
    rate = f"learning rate; default: {FROZEN_LR:g}, with --finetune {FINETUNE_LR:g}"
    add("--lr", type=options.positive_float, help=rate)
    add("--epochs", type=options.positive_int, default=20, help="epochs of training")
    add("--batch-size", type=options.positive_int, default=64, help="windows per step")
    seed = "random seed (initialisation, order, starts of windows)"
    add("--seed", type=options.non_negative_int, default=0, help=seed)
    args = parser.parse_args(argv)
    if (args.stride or 1) > args.window:
        parser.error(f"--stride {args.stride} skips frames between windows of {args.window}: give at most that")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from tools.detection.detector import Detector, train_detector, write_detector
    from tools.detection.metrics import measure_detection
    from tools.detection.recordings import open_long_evaluation
    from tools.detection.scoring import by_detector
    from tools.evaluation.setup import unused_path

    device = single_process(args.device, "tools.detect")
    evaluation = open_long_evaluation(args.pretrained, args.dataset, args.protocol, args.data_root, device)
    packed, encoder = evaluation.packed, evaluation.encoder.select(args.modality)
    detector = Detector(encoder, classes_of(packed), args.window, args.finetune, args.seed)
    evaluation.start_log(TASK)
    recipe: dict[str, Any] = {
        "stride": args.stride or max(1, args.window // 4),
        "lr": args.lr or (FINETUNE_LR if args.finetune else FROZEN_LR),
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "seed": args.seed,
    }
    losses = train_detector(detector, packed, evaluation.indices["train"], **recipe)
    evaluation.plot(TASK, {"loss": list(enumerate(losses, 1))})

    decoding = {"window": args.window, "threshold": args.threshold, "shortest": args.shortest}
    scorer, val = by_detector(detector), evaluation.indices["val"].tolist()
    detections = [
        scorer.detect(packed.recording(index), stride=recipe["stride"], **decoding)
        for index in progress(val, desc="detect", unit="recording")
    ]
    assert packed.segments is not None
    metrics = measure_detection(detections, [packed.segments[index] for index in val])
    for name, value in metrics.items():
        log.info(f"{name}: {value:.1f} %")
    path = unused_path(evaluation.folder, TASK, ".pth.tar")
    write_detector(path, detector, encoder)
    settings = recipe | decoding | {"finetune": args.finetune}
    evaluation.add(TASK, encoder.modality, metrics, settings, {"detector": path.name})


if __name__ == "__main__":
    run(main)

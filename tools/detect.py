"""Train a detector of actions in long recordings on top of an encoder, and measure it.

python -m tools.detect --pretrained checkpoints/pku1_xsub                   a Linear on the frozen encoder
python -m tools.detect --pretrained checkpoints/pku1_xsub --finetune        the encoder, too
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict

from data_gen.datasets import DATA_ROOT, classes_of
from utils.logs import progress
from utils.options import (
    add_data_options,
    add_modality_option,
    add_pretrained_option,
    fraction,
    make_parser,
    non_negative_int,
    positive_float,
    positive_int,
)
from utils.processes import run, single_process

TASK = "detection"
FROZEN_LR, FINETUNE_LR = 1e-2, 1e-3
log = logging.getLogger("umurl")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add_pretrained_option(parser)
    add_data_options(parser, "--finetune-dataset", DATA_ROOT)
    add_modality_option(parser, "all", ensemble=False)
    add("--finetune", action="store_true", help="train the encoder, too")
    add("--window", type=positive_int, default=64, help="frames per window")
    add("--stride", type=positive_int, help="frames between the starts of windows; default: a quarter of the window")
    add("--threshold", type=fraction, default=0.2, help="minimum score of an action's frame")
    shortest = "minimum length of an action, and maximum of a gap in one, in frames"
    add("--shortest", type=positive_int, default=15, help=shortest)
    add("--lr", type=positive_float, help=f"learning rate; default: {FROZEN_LR:g}, with --finetune {FINETUNE_LR:g}")
    add("--epochs", type=positive_int, default=20, help="epochs of training")
    add("--batch-size", type=positive_int, default=64, help="windows per step")
    add("--seed", type=non_negative_int, default=0, help="random seed (initialisation, order, starts of windows)")
    args = parser.parse_args(argv)
    if (args.stride or 1) > args.window:
        parser.error(f"--stride {args.stride} skips frames between windows of {args.window}: give at most that")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from tools.detection.detector import Detector, write_detector
    from tools.detection.metrics import OVERLAPS, REPORTED, measure_detection
    from tools.detection.recordings import open_long_evaluation
    from tools.detection.scoring import by_detector
    from tools.detection.training import DetectionRecipe, train_detector
    from tools.evaluation.setup import unused_path

    device = single_process(args.device, "tools.detect")
    evaluation = open_long_evaluation(args.pretrained, args.dataset, args.protocol, args.data_root, device)
    packed, encoder = evaluation.packed, evaluation.encoder.select(args.modality)
    detector = Detector(encoder, classes_of(packed), args.window, args.finetune, args.seed)
    evaluation.start_log(TASK)
    stride = args.stride or max(1, args.window // 4)
    lr = args.lr or (FINETUNE_LR if args.finetune else FROZEN_LR)
    recipe = DetectionRecipe(args.window, stride, lr, args.epochs, args.batch_size, args.seed)
    losses = train_detector(detector, packed, evaluation.indices["train"], recipe)
    evaluation.plot(TASK, {"loss": list(enumerate(losses, 1))})

    scorer, detections = by_detector(detector), []
    val = evaluation.indices["val"].tolist()
    for index in progress(val, desc="detect", unit="recording"):
        bodies = packed.recording(index)
        detections.append(scorer.detect(bodies, args.window, stride, args.threshold, args.shortest))
    assert packed.segments is not None
    truth = [packed.segments[index] for index in val]
    metrics = measure_detection(detections, truth)
    for overlap in OVERLAPS:
        suffix = "" if overlap == REPORTED else f"_{overlap}"
        by_action, by_video = (metrics[f"map_by_{what}{suffix}"] for what in ("action", "video"))
        log.info(f"overlap {overlap}: mAP by action {by_action:.1f} %, by video {by_video:.1f} %")
    log.info(f"F1 of frames {metrics['f1']:.1f} %; {sum(map(len, detections))} detections of {sum(map(len, truth))}")
    path = unused_path(evaluation.folder, TASK, ".pth.tar")
    write_detector(path, detector, encoder)
    settings = asdict(recipe) | {"threshold": args.threshold, "shortest": args.shortest, "finetune": args.finetune}
    evaluation.add(TASK, encoder.modality, metrics, settings, {"detector": path.name})


if __name__ == "__main__":
    run(main)

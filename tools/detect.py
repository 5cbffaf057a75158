"""Train a detector of actions in long recordings on top of an encoder, and measure it.

python -m tools.detect --pretrained checkpoints/pku1_xsub                   a Linear on the frozen encoder
python -m tools.detect --pretrained checkpoints/pku1_xsub --finetune        the encoder, too
"""

from __future__ import annotations

import argparse
import logging
from copy import deepcopy
from typing import Any

from data_gen.datasets import UNTRIMMED, DataSet, Protocol
from data_gen.packed.catalogue import packed_in
from data_gen.packed.reader import PackedDataset
from models.detector import Detector
from models.loading import fingerprint
from tools.detection.long_inputs import check_skeleton, packed_blocks
from tools.detection.metrics import MARKED, OVERLAPS, measure
from tools.detection.saved import file_of, write_detector
from tools.detection.scoring import Scorer, by_detector
from tools.detection.training import DetectionRecipe, train_detector
from tools.evaluation.features import FrozenEncoder, add_pretrained_option, modality_name
from tools.evaluation.setup import folder_of
from tools.utils import checkpoints
from tools.utils.distributed import single_process
from tools.utils.errors import UserError, run
from tools.utils.logs import progress, start_log, write_result
from tools.utils.options import (
    HelpFormatter,
    add_data_options,
    choose_data,
    classes_of,
    fraction,
    non_negative_int,
    open_dataset,
    positive_float,
    positive_int,
)

FROZEN_LR, FINETUNE_LR = 1e-2, 1e-3


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_pretrained_option(parser)
    add_data_options(parser, "--finetune-dataset")
    parser.add_argument("--modality", type=modality_name, default="all", help="all, one modality, or a fusion of some")
    parser.add_argument("--finetune", action="store_true", help="train the encoder, too")
    parser.add_argument("--window", type=positive_int, default=64, help="frames of a window")
    parser.add_argument(
        "--stride", type=positive_int, help="frames between the starts of windows; default: a quarter of the window"
    )
    parser.add_argument("--threshold", type=fraction, default=0.2, help="least score of an action's frame")
    parser.add_argument("--shortest", type=positive_int, default=15, help="least length of an action, in frames")
    parser.add_argument("--lr", type=positive_float, help=f"default: {FROZEN_LR:g}, with --finetune {FINETUNE_LR:g}")
    parser.add_argument("--epochs", type=positive_int, default=20, help="epochs of training")
    parser.add_argument("--batch-size", type=positive_int, default=64, help="windows per step")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the weights and of the order")
    args = parser.parse_args(argv)
    args.stride = args.stride or max(1, args.window // 4)
    args.lr = args.lr or (FINETUNE_LR if args.finetune else FROZEN_LR)
    if args.stride > args.window:
        raise UserError(f"--stride {args.stride} leaves frames between windows of {args.window}: give at most that")
    return args


def choose_long(args: argparse.Namespace, encoder: FrozenEncoder) -> tuple[DataSet, Protocol]:
    """Choose the data set of long recordings and the protocol by the flags, else by the checkpoint. `pku1` means
    `pku1_untrimmed` if that exists. Raises UserError."""
    own = encoder.state.get("dataset")
    name, protocol = args.dataset or own, args.protocol
    if name is None:
        raise UserError("on which data set? Name it by --finetune-dataset")
    if name == own:
        protocol = protocol or encoder.state.get("protocol")
    if name + UNTRIMMED in packed_in(args.data_root):
        name += UNTRIMMED
    return choose_data(name, protocol, name, args.data_root)


def evaluate(scorer: Scorer, packed: PackedDataset, protocol: str, args: argparse.Namespace) -> dict[str, Any]:
    """Detect actions in the val recordings, and compare with their segments."""
    assert packed.segments is not None
    found, truth = [], []
    for row in progress(packed.split(protocol, "val").tolist(), desc="detect", unit="recording"):
        blocks = packed_blocks(packed, row)
        found.append(list(scorer.detect(blocks, args.window, args.stride, args.threshold, args.shortest)))
        truth.append(packed.segments[row])
    return measure(found, truth)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    device = single_process(args.device, "tools.detect")
    encoder = FrozenEncoder.open(args.pretrained, device)
    modalities = encoder.modalities(args.modality)
    dataset, protocol = choose_long(args, encoder)
    packed = open_dataset(args.data_root, dataset, protocol, long=True)
    check_skeleton(encoder, packed.skeleton, packed.shape[2], packed.path)
    train = packed.split(protocol.name, "train")
    folder = folder_of(args.pretrained)
    task = file_of(args.modality, args.finetune).removesuffix(".pth.tar")
    log = start_log(folder, task)
    log.info(f"{encoder.path} on {packed.path}, {protocol.long_name}, {len(train)} recordings to train on, {device}")
    detector = Detector(deepcopy(encoder.backbone), modalities, packed.num_classes, args.finetune, args.seed).to(device)
    recipe = DetectionRecipe(args.window, args.stride, args.lr, args.epochs, args.batch_size, args.seed)
    losses = train_detector(detector, packed, train, recipe)
    classes = classes_of(packed)
    about = {"modality": args.modality, "encoder": fingerprint(encoder.backbone), "checkpoint": str(encoder.path)}
    kept = {"classes": classes, "window": args.window}
    write_detector(folder / file_of(args.modality, args.finetune), detector, about | kept)
    result = evaluate(by_detector(detector, classes, device), packed, protocol.name, args)
    report(result)
    result |= {
        "task": task,
        "dataset": dataset.name,
        "protocol": protocol.name,
        **about,
        "epoch": encoder.state.get("epoch"),
        "loss": losses,
        "args": vars(args),
        "versions": checkpoints.versions(),
    }
    log.info(f"written to {write_result(folder, task, result)}")


def report(result: dict[str, Any]) -> None:
    """Log the scores."""
    log = logging.getLogger("umurl")
    for overlap in OVERLAPS:
        mean = result["mAP"][str(overlap)]
        mark = "  <- the figure that is usually reported" if overlap == MARKED else ""
        log.info(f"overlap {overlap}: mAP by action {mean['by_action']:.1f} %, by video {mean['by_video']:.1f} %{mark}")
    log.info(f"F1 of frames {result['f1']:.1f} %; {result['found']:,} found of {result['segments']:,} segments")


if __name__ == "__main__":
    run(main)

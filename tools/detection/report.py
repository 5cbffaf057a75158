"""Train a detector, measure it, and write it and its scores."""

from __future__ import annotations

import argparse
import logging
from copy import deepcopy
from typing import Any

import numpy as np
from data_gen.packed.catalogue import packed_in
from data_gen.packed.words import counted
from models.detector import Detector
from models.loading import fingerprint

from data_gen.datasets import UNTRIMMED, DataSet, Protocol
from data_gen.packed.reader import SIDES, PackedDataset
from tools.detection.long_inputs import check_skeleton, packed_blocks
from tools.detection.metrics import MARKED, OVERLAPS, measure_detection
from tools.detection.saved import detector_name, write_detector
from tools.detection.scoring import Scorer, by_detector
from tools.detection.training import DetectionRecipe, train_detector
from tools.evaluation.features import FrozenEncoder
from tools.evaluation.setup import folder_of
from tools.utils import checkpoints
from tools.utils.distributed import single_process
from tools.utils.errors import UserError
from tools.utils.kept_results import check_results, set_aside
from tools.utils.logs import progress, start_log, write_result
from tools.utils.options import choose_data, classes_of, open_dataset
from tools.utils.result_files import settings_of


def report_detection(args: argparse.Namespace) -> None:
    """Run tools.detect. Raises UserError, CheckpointError or DataSetError if an input is invalid."""
    device = single_process(args.device, "tools.detect")
    encoder = FrozenEncoder.open(args.pretrained, device)
    modalities = encoder.modalities(args.modality)
    dataset, protocol = _choose_long(args, encoder)
    packed = open_dataset(args.data_root, dataset, protocol, long=True)
    check_skeleton(encoder, packed.skeleton, packed.shape[2], packed.path)
    packed = packed.adapted(encoder.layout.skeleton, packed.shape[0])
    train, val = (packed.split(protocol.name, side) for side in SIDES)
    folder = folder_of(args.pretrained)
    task = detector_name(args.modality, args.finetune, encoder.where)
    check_results(folder, task)
    log = start_log(folder, task)
    log.info(f"{encoder.path} on {packed.path}, {protocol.long_name}, {len(train)} recordings to train on, {device}")
    detector = Detector(deepcopy(encoder.backbone), modalities, packed.num_classes, args.finetune, args.seed).to(device)
    recipe = DetectionRecipe(args.window, args.stride, args.lr, args.epochs, args.batch_size, args.seed)
    losses = train_detector(detector, packed, train, recipe)
    classes = classes_of(packed)
    told = {"modality": args.modality, "encoder": fingerprint(encoder.backbone), "checkpoint": str(encoder.path)}
    kept = {"classes": classes, "window": args.window}
    result = {
        "task": task,
        "dataset": dataset.name,
        "protocol": protocol.name,
        **told,
        "epoch": encoder.state.get("epoch"),
        "where": encoder.where,
        "loss": losses,
        "args": vars(args),
        "versions": checkpoints.versions(),
    }
    set_aside(folder, task, settings_of(result))
    write_detector(folder / f"{task}.pth.tar", detector, told | kept)
    scores = _evaluate(by_detector(detector, classes, device), packed, val, args)
    _log_scores(scores)
    log.info(f"written to {write_result(folder, task, scores | result)}")


def _choose_long(args: argparse.Namespace, encoder: FrozenEncoder) -> tuple[DataSet, Protocol]:
    """Choose the data set of long recordings and the protocol: by the flags, else by the checkpoint (for `pku1`:
    `pku1_untrimmed`, if it exists). Raises UserError if there is none."""
    own = encoder.state.get("dataset")
    name, protocol = args.dataset or own, args.protocol
    if name is None:
        raise UserError("on which data set? Name it by --finetune-dataset")
    if name == own:
        protocol = protocol or encoder.state.get("protocol")
    if name + UNTRIMMED in packed_in(args.data_root):
        name += UNTRIMMED
    return choose_data(name, protocol, name, args.data_root)


def _evaluate(scorer: Scorer, packed: PackedDataset, rows: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    """Detect actions in the recordings at `rows`, int64, and compare them with the true segments."""
    assert packed.segments is not None
    found, truth = [], []
    for row in progress(rows.tolist(), desc="detect", unit="recording"):
        blocks = packed_blocks(packed, row)
        found.append(list(scorer.detect(blocks, args.window, args.stride, args.threshold, args.shortest)))
        truth.append(packed.segments[row])
    return measure_detection(found, truth)


def _log_scores(result: dict[str, Any]) -> None:
    log = logging.getLogger("umurl")
    for overlap in OVERLAPS:
        mean = result["mAP"][str(overlap)]
        mark = "  <- the figure that is usually reported" if overlap == MARKED else ""
        log.info(f"overlap {overlap}: mAP by action {mean['by_action']:.1f} %, by video {mean['by_video']:.1f} %{mark}")
    of_all = counted(result["segments"], "segment")
    log.info(f"F1 of frames {result['f1']:.1f} %; {result['found']:,} found of {of_all}")

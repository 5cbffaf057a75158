"""What recognition and retrieval have in common: a frozen encoder, a protocol, cached features, a result."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from data_gen.datasets import DATASETS, DataSet, Protocol
from data_gen.packed import PackedDataset
from feeder.clips import ClipSource
from feeder.modalities import MODALITIES
from models.encoder import Backbone
from tools import checkpoints
from tools.features import extract_features, modalities_of
from tools.logs import start_log, write_result
from tools.options import add_data_options, choose_data, open_dataset
from tools.processes import single_process


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pretrained", type=Path, required=True, metavar="PATH", help="checkpoint, or a run's folder: its last one"
    )
    add_data_options(parser, "--finetune-dataset")
    parser.add_argument(
        "--modality",
        choices=("all", *MODALITIES),
        default="all",
        help="what is encoded: one modality without fusion, or all of them fused",
    )


@dataclass
class Evaluation:
    """A frozen encoder's features of both sides of a protocol: (features, labels) each."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    num_classes: int
    result: dict
    folder: Path
    task: str

    def finish(self, metrics: dict, curves: dict[str, list[tuple[int, float]]]) -> Path:
        """Write the task's JSON and the curves, tag → (step, value), to TensorBoard."""
        with SummaryWriter(str(self.folder)) as board:
            for tag, points in curves.items():
                for step, value in points:
                    board.add_scalar(tag, value, step)
        return write_result(self.folder, self.task, metrics | self.result)


def prepare(args: argparse.Namespace, task: str) -> Evaluation:
    """Load the encoder, choose the data and compute the features of both sides. Raises UserError."""
    device = single_process(args.device, f"{task}.py")
    folder = args.pretrained if args.pretrained.is_dir() else args.pretrained.parent
    task = task if args.modality == "all" else f"{task}_{args.modality}"
    if folder.is_dir():
        start_log(folder, task)
    path = checkpoints.newest(args.pretrained)
    state = checkpoints.load(path)
    backbone = checkpoints.load_backbone(state, path).to(device)
    dataset, protocol = data_of(args, state, folder)
    packed = open_dataset(args.data_root, dataset, protocol)
    logging.getLogger("umurl").info(
        f"{path} (epoch {state.get('epoch', '?')}, hidden size {backbone.hidden_size}) on {packed.path}, "
        f"{protocol.long_name}, modality {args.modality}, {device}"
    )
    train, val = (
        _features(backbone, packed, protocol, side, modalities_of(args.modality), device) for side in ("train", "val")
    )
    result = {
        "task": task,
        "dataset": dataset.name,
        "protocol": protocol.name,
        "modality": args.modality,
        "checkpoint": str(path),
        "epoch": state.get("epoch"),
        "hidden_size": backbone.hidden_size,
        "train": len(train[1]),
        "val": len(val[1]),
        "args": vars(args),
        "versions": checkpoints.versions(),
    }
    return Evaluation(train, val, packed.num_classes, result, folder, task)


def data_of(args: argparse.Namespace, state: dict, folder: Path) -> tuple[DataSet, Protocol]:
    """By flags, else what the checkpoint was trained on, else by its folder's name."""
    own = state.get("dataset") if state.get("dataset") in DATASETS else None
    dataset, protocol = args.dataset or own, args.protocol
    if dataset and dataset == own:
        protocol = protocol or state.get("protocol")
    return choose_data(dataset, protocol, folder.resolve().name)


def _features(
    backbone: Backbone,
    packed: PackedDataset,
    protocol: Protocol,
    side: str,
    modalities: Sequence[str],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    source = ClipSource.of_dataset(packed, packed.split(protocol.name, side), device)
    return extract_features(backbone, source, modalities, device, f"features, {side}"), source.label.to(device)

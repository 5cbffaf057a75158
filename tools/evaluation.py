"""What recognition and retrieval have in common: a frozen encoder, a protocol, cached features, a result."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from data_gen.datasets import DATASETS, DataSet, Protocol
from data_gen.packed import SIDES
from feeder.clips import ClipSource
from models.loading import fingerprint
from tools import checkpoints
from tools.features import FrozenEncoder, extract_features, modality_name
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
        type=modality_name,
        nargs="+",
        default=["all"],
        metavar="M",
        help="what is encoded: all modalities fused, one of joint, bone and motion without fusion, or some of them "
        "fused (joint+bone); several are evaluated in one pass; default: all",
    )


@dataclass
class Evaluation:
    """A frozen encoder's features of both sides of a protocol, by the names given to --modality, and their labels."""

    train: dict[str, Tensor]
    val: dict[str, Tensor]
    train_labels: Tensor
    val_labels: Tensor
    num_classes: int
    result: dict
    folder: Path
    task: str

    def task_of(self, modality: str) -> str:
        """What the files of a modality are called: the task alone for `all`."""
        return self.task if modality == "all" else f"{self.task}_{modality}"

    def finish(self, modality: str, metrics: dict, curves: dict[str, list[tuple[int, float]]]) -> Path:
        """Write a modality's JSON and its curves, name → (step, value), to TensorBoard."""
        task = self.task_of(modality)
        with SummaryWriter(str(self.folder)) as board:
            for name, points in curves.items():
                for step, value in points:
                    board.add_scalar(f"{task.removeprefix('action_')}/{name}", value, step)
        return write_result(self.folder, task, metrics | self.result | {"task": task, "modality": modality})


def prepare(args: argparse.Namespace, task: str) -> Evaluation:
    """Load the encoder, choose the data and compute the features of both sides. Raises UserError."""
    device = single_process(args.device, f"{task}.py")
    folder = args.pretrained if args.pretrained.is_dir() else args.pretrained.parent
    if folder.is_dir():
        start_log(folder, task)
    encoder = FrozenEncoder.open(args.pretrained, device)
    state, backbone = encoder.state, encoder.backbone
    names = list(dict.fromkeys(args.modality))
    combinations = [encoder.modalities(name) for name in names]
    dataset, protocol = _data_of(args, state, folder)
    packed = open_dataset(args.data_root, dataset, protocol)
    logging.getLogger("umurl").info(
        f"{encoder.path} (epoch {state.get('epoch', '?')}, hidden size {backbone.hidden_size}) on {packed.path}, "
        f"{protocol.long_name}, modality {' '.join(names)}, {device}"
    )
    features, labels = {}, {}
    for side in SIDES:
        source = ClipSource.of_dataset(packed, packed.split(protocol.name, side), device)
        found = extract_features(backbone, source, combinations, device, f"features, {side}")
        features[side], labels[side] = dict(zip(names, found)), source.label.to(device)
    result = {
        "dataset": dataset.name,
        "protocol": protocol.name,
        "checkpoint": str(encoder.path),
        "encoder": fingerprint(backbone),
        "epoch": state.get("epoch"),
        "hidden_size": backbone.hidden_size,
        "train": len(labels["train"]),
        "val": len(labels["val"]),
        "args": vars(args),
        "versions": checkpoints.versions(),
    }
    return Evaluation(
        features["train"], features["val"], labels["train"], labels["val"], packed.num_classes, result, folder, task
    )


def _data_of(args: argparse.Namespace, state: dict, folder: Path) -> tuple[DataSet, Protocol]:
    """By flags, else what the checkpoint was trained on, else by its folder's name."""
    own = state.get("dataset") if state.get("dataset") in DATASETS else None
    dataset, protocol = args.dataset or own, args.protocol
    if dataset and dataset == own:
        protocol = protocol or state.get("protocol")
    return choose_data(dataset, protocol, folder.resolve().name)

"""What recognition and retrieval have in common: a frozen encoder, a protocol, cached features, a result."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from data_gen.datasets import DataSet, Protocol, from_test_name
from data_gen.packed.reader import SIDES, PackedDataset
from feeder.clips import ClipDataset
from feeder.layout import FrameLayout
from models.encoder import Backbone
from models.loading import fingerprint
from tools.evaluation.features import FrozenEncoder, add_pretrained_option, extract_features, modality_name, suffix_of
from tools.utils import checkpoints
from tools.utils.distributed import single_process
from tools.utils.logs import start_log, write_result
from tools.utils.options import add_data_options, choose_data, classes_of, open_dataset


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    add_pretrained_option(parser)
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
class Report:
    """Where a task's scores go, and what is said of all of them."""

    task: str
    folder: Path
    result: dict

    def finish(self, modality: str, metrics: dict, curves: dict[str, list[tuple[int, float]]]) -> Path:
        """Write a modality's JSON and its curves, name → (step, value), to TensorBoard."""
        task = self.task + suffix_of(modality)
        with SummaryWriter(str(self.folder)) as board:
            for name, points in curves.items():
                for step, value in points:
                    board.add_scalar(f"{task.removeprefix('action_')}/{name}", value, step)
        return write_result(self.folder, task, metrics | self.result | {"task": task, "modality": modality})


@dataclass
class Evaluation(Report):
    """A frozen encoder's features of both sides of a protocol, by the names given to --modality, and their labels."""

    train: dict[str, Tensor]
    val: dict[str, Tensor]
    train_labels: Tensor
    val_labels: Tensor
    classes: list[str]

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass
class EvaluationSetup:
    """What is evaluated: an encoder, on a protocol of a data set. `split` holds int64 indices of the data set by side,
    `modalities` what each name given to --modality means, and `result` what a task's JSON says of all this."""

    backbone: Backbone
    modalities: dict[str, tuple[str, ...]]
    packed: PackedDataset
    split: dict[str, np.ndarray]
    is_transfer: bool
    result: dict


def folder_of(pretrained: Path) -> Path:
    """Where a checkpoint's scores and logs go."""
    return pretrained if pretrained.is_dir() else pretrained.parent


def load_setup(args: argparse.Namespace, device: torch.device) -> EvaluationSetup:
    """The encoder, in evaluation mode on `device`, and the data that the flags choose. Raises UserError."""
    folder = folder_of(args.pretrained)
    encoder = FrozenEncoder.open(args.pretrained, device)
    state, backbone = encoder.state, encoder.backbone
    modalities = {name: encoder.modalities(name) for name in args.modality}
    dataset, protocol = data_of(args, state, folder)
    packed = open_dataset(args.data_root, dataset, protocol)
    logging.getLogger("umurl").info(
        f"{encoder.path} (epoch {state.get('epoch', '?')}, hidden size {backbone.hidden_size}) on {packed.path}, "
        f"{protocol.long_name}, modality {' '.join(modalities)}, {device}"
    )
    checkpoints.check_layout(backbone.layout, encoder.path, FrameLayout.of_dataset(packed), packed.path)
    split = {side: packed.split(protocol.name, side) for side in SIDES}
    result = {
        "dataset": dataset.name,
        "protocol": protocol.name,
        "checkpoint": str(encoder.path),
        "encoder": fingerprint(backbone),
        "epoch": state.get("epoch"),
        "hidden_size": backbone.hidden_size,
        **{side: len(indices) for side, indices in split.items()},
        "args": vars(args),
        "versions": checkpoints.versions(),
    }
    return EvaluationSetup(
        backbone, modalities, packed, split, _own_dataset(state, folder) not in (None, dataset.name), result
    )


def prepare(args: argparse.Namespace, task: str) -> Evaluation:
    """Load the encoder, choose the data and compute the features of both sides. Raises UserError."""
    device = single_process(args.device, f"{task}.py")
    folder = folder_of(args.pretrained)
    if folder.is_dir():
        start_log(folder, task)
    setup = load_setup(args, device)
    features, labels = {}, {}
    for side, indices in setup.split.items():
        source = ClipDataset.of_dataset(setup.packed, indices, device)
        combinations = list(setup.modalities.values())
        found = extract_features(setup.backbone, source, combinations, device, f"features, {side}")
        features[side], labels[side] = dict(zip(setup.modalities, found)), source.label.to(device)
    return Evaluation(
        task,
        folder,
        setup.result,
        features["train"],
        features["val"],
        labels["train"],
        labels["val"],
        classes_of(setup.packed),
    )


def _own_dataset(state: dict, folder: Path) -> str | None:
    """The data set that a checkpoint was trained on, as it says itself or else by its folder's name."""
    if isinstance(state.get("dataset"), str):
        return state["dataset"]
    known = from_test_name(folder.resolve().name)
    return known[0].name if known else None


def data_of(args: argparse.Namespace, state: dict, folder: Path) -> tuple[DataSet, Protocol]:
    """By flags, else what the checkpoint was trained on, else by its folder's name."""
    own = _own_dataset(state, folder)
    dataset, protocol = args.dataset or own, args.protocol
    if dataset and dataset == own:
        protocol = protocol or state.get("protocol")
    return choose_data(dataset, protocol, folder.resolve().name, args.data_root)

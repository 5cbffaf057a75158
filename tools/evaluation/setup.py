"""What the evaluations have in common: an encoder, a protocol of a data set, cached features, and where scores go."""

from __future__ import annotations

import argparse
import csv
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_gen.datasets import DataSet, Protocol, from_test_name
from data_gen.packed.atomic import atomic_write
from data_gen.packed.reader import SIDES, PackedDataset
from feeder.clips import ClipDataset
from feeder.layout import FrameLayout
from models.loading import fingerprint
from tools.evaluation.features import FrozenEncoder, extract_features, suffix_of
from tools.evaluation.scores import Curves
from tools.utils import checkpoints
from tools.utils.errors import UserError
from tools.utils.logs import secondary, start_log, tensorboard, write_result
from tools.utils.options import choose_data, classes_of, open_dataset


@dataclass(frozen=True)
class EvaluationSetup:
    """An encoder, the protocol that it is evaluated on, and where the scores go.

    `modalities` maps each name given to --modality to the modalities that it stands for; `split` holds int64 indices
    into the data set by side; `is_transfer` tells that the encoder was pre-trained on another data set; `result` is
    what every task's JSON says of the setup.
    """

    encoder: FrozenEncoder
    modalities: dict[str, tuple[str, ...]]
    packed: PackedDataset
    protocol: Protocol
    split: dict[str, np.ndarray]
    is_transfer: bool
    folder: Path
    result: dict

    def start_log(self, name: str, rank: int = 0) -> None:
        """Log to `name.log` in the run's folder from now on, and say what is evaluated."""
        log = start_log(self.folder, name, rank)
        log.info(
            f"{self.encoder.path} (epoch {self.result['epoch'] or '?'}, hidden size {self.result['hidden_size']}) on "
            f"{self.packed.path}, {self.protocol.long_name}, modality {' '.join(self.modalities)}, "
            f"{self.encoder.device}"
        )

    def write(self, task: str, modality: str, metrics: dict, curves: Curves) -> None:
        """Write the JSON of a task and modality, and to TensorBoard its curves."""
        task += suffix_of(modality)
        path = write_result(self.folder, task, metrics | self.result | {"task": task, "modality": modality})
        logging.getLogger("umurl").info(f"written to {path}")
        with secondary("TensorBoard's log"), tensorboard(self.folder) as board:
            for name, points in curves.items():
                for step, value in points:
                    board.add_scalar(f"{task.removeprefix('action_')}/{name}", value, step)

    def write_predictions(self, task: str, modality: str, predicted: Tensor, more: dict[str, list]) -> None:
        """Write a CSV with a line for each recording of the val side: its name, its label and the predicted one, int64
        (N,), the classes' names, and the columns `more`."""
        names, rows = classes_of(self.packed), self.split["val"]
        labels, found = self.packed.label[rows].tolist(), predicted.tolist()
        columns = {
            "name": self.packed.names[rows].tolist(),
            "label": labels,
            "predicted": found,
            "label_name": [names[label] for label in labels],
            "predicted_name": [names[label] for label in found],
            **more,
        }
        path = self.folder / f"{task}{suffix_of(modality)}_predictions.csv"
        with atomic_write(path) as partial, open(partial, "w", newline="") as file:
            csv.writer(file).writerows([columns, *zip(*columns.values())])


def load_setup(args: argparse.Namespace, device: torch.device) -> EvaluationSetup:
    """Load the encoder onto `device` and open the data that the flags choose. Raises UserError, CheckpointError and
    DataSetError, and writes nothing."""
    folder = folder_of(args.pretrained)
    encoder = FrozenEncoder.open(args.pretrained, device)
    state, backbone = encoder.state, encoder.backbone
    modalities = {name: encoder.modalities(name) for name in args.modality}
    dataset, protocol = data_of(args, state, folder)
    packed = open_dataset(args.data_root, dataset, protocol)
    checkpoints.check_layout(backbone.layout, encoder.path, FrameLayout.of_dataset(packed), packed.path)
    if packed.num_classes < 2:
        raise UserError(f"{packed.path} has no labels, only the class {classes_of(packed)[0]!r}: nothing to evaluate")
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
    is_transfer = dataset.name not in (_own_dataset(state, folder) or dataset.name).split("+")
    return EvaluationSetup(encoder, modalities, packed, protocol, split, is_transfer, folder, result)


@dataclass(frozen=True)
class SideFeatures:
    """One side of a protocol: features (N, D) by the names given to --modality, and labels int64 (N,)."""

    features: dict[str, Tensor]
    labels: Tensor


def extract_sides(setup: EvaluationSetup) -> tuple[SideFeatures, SideFeatures]:
    """Compute the features of the recordings to train on and of those to validate with, on the encoder's device."""
    sides = []
    for side in SIDES:
        encoder, combinations = setup.encoder, list(setup.modalities.values())
        source = ClipDataset.of_dataset(setup.packed, setup.split[side], encoder.device)
        found = extract_features(encoder.backbone, source, combinations, encoder.device, f"features, {side}")
        sides.append(SideFeatures(dict(zip(setup.modalities, found)), source.label.to(encoder.device)))
    train, val = sides
    return train, val


def folder_of(pretrained: Path) -> Path:
    """The folder where a checkpoint's scores and logs go: its own."""
    return pretrained if pretrained.is_dir() else pretrained.parent


def data_of(args: argparse.Namespace, state: dict, folder: Path) -> tuple[DataSet, Protocol]:
    """Choose the data set and the protocol by the flags, else by what the checkpoint was trained on, else by its
    folder's name. Raises UserError."""
    own = _own_dataset(state, folder)
    if own and "+" in own and not args.dataset:
        raise UserError(f"pre-trained on {own.replace('+', ' and ')}: say by --finetune-dataset what to evaluate on")
    dataset, protocol = args.dataset or own, args.protocol
    if dataset and dataset == own:
        protocol = protocol or state.get("protocol")
    return choose_data(dataset, protocol, folder.resolve().name, args.data_root)


def _own_dataset(state: dict, folder: Path) -> str | None:
    """The data set that a checkpoint was trained on, as it says itself or else by its folder's name."""
    if isinstance(state.get("dataset"), str):
        return state["dataset"]
    known = from_test_name(folder.resolve().name)
    return known[0].name if known else None

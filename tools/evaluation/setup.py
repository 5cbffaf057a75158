"""Set up an evaluation: an encoder, a protocol of a data set, cached features, and where scores go."""

from __future__ import annotations

import argparse
import csv
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_gen.datasets import DataSet, Protocol
from data_gen.packed.atomic import atomic_write
from data_gen.packed.reader import SIDES, PackedDataset
from feeder.clips import ClipDataset
from feeder.modality_names import Streams
from models.loading import fingerprint
from tools.evaluation.features import FrozenEncoder, extract_features, result_name
from tools.evaluation.representation import Representation
from tools.evaluation.scores import Curves
from tools.utils import checkpoints
from tools.utils.encoder_options import CENTRED, STANDARDISED
from tools.utils.errors import UserError
from tools.utils.kept_results import check_results, set_aside
from tools.utils.logs import secondary, start_log, tensorboard, write_result
from tools.utils.options import choose_data, classes_of, open_dataset
from tools.utils.result_files import settings_of


@dataclass(frozen=True)
class EvaluationSetup:
    """Hold an encoder, the protocol that it is evaluated on, and where the scores go.

    modalities: the streams of each name given to --modality
    variants: of the features that are evaluated, '' for the plain ones
    split: int64 indices into the data set, by side
    is_transfer: the encoder was pre-trained on another data set
    because: why it is this protocol
    result: what every task's JSON says of the setup

    A task's files are named by the task, `where` (an earlier checkpoint, other data than the run's own) and the
    representation.
    """

    encoder: FrozenEncoder
    modalities: dict[str, Streams]
    variants: tuple[str, ...]
    packed: PackedDataset
    protocol: Protocol
    split: dict[str, np.ndarray]
    is_transfer: bool
    because: str
    folder: Path
    result: dict

    @property
    def where(self) -> str:
        return self.result["where"]

    def start_log(self, task: str, rank: int = 0) -> None:
        """Start logging to the task's file in the run's folder, and log what is evaluated. Raises OSError if the files
        of its results cannot be replaced."""
        check_results(self.folder, task + self.where)
        log = start_log(self.folder, task + self.where, rank)
        log.info(
            f"{self.encoder.path} (epoch {self.result['epoch'] or '?'}, hidden size {self.result['hidden_size']}) on "
            f"{self.packed.path}, {self.protocol.long_name} ({self.because}), modality {' '.join(self.modalities)}, "
            f"{self.encoder.device}"
        )
        for note in ("adapted", "overlap"):
            if note in self.result:
                log.info(f"note: {self.result[note]}")

    def write(self, task: str, modality: str, metrics: dict, curves: Curves) -> None:
        """Write the JSON of a task and modality, and its curves to TensorBoard. An earlier result with other settings
        is renamed."""
        task = result_name(task, self.where, modality)
        result = metrics | self.result | {"task": task, "modality": modality}
        set_aside(self.folder, task, settings_of(result))
        path = write_result(self.folder, task, result)
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
        path = self.folder / f"{result_name(task, self.where, modality)}_predictions.csv"
        with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *zip(*columns.values())])


def load_setup(args: argparse.Namespace, device: torch.device) -> EvaluationSetup:
    """Load the encoder onto `device` and open the data that the flags choose; write nothing. Raises UserError,
    CheckpointError or DataSetError if one is invalid."""
    folder = folder_of(args.pretrained)
    encoder = FrozenEncoder.open(args.pretrained, device)
    state, backbone = encoder.state, encoder.backbone
    modalities = {name: encoder.streams(name) for name in args.modality}
    variants = ("", *[CENTRED] * args.centre, *[STANDARDISED] * args.standardise)
    dataset, protocol = data_of(args, state, folder)
    stored = open_dataset(args.data_root, dataset, protocol)
    packed, adapted = encoder.adapt(stored)
    if packed.num_classes < 2:
        raise UserError(f"{packed.path} has no labels, only the class {classes_of(packed)[0]!r}: nothing to evaluate")
    split = {side: packed.split(protocol.name, side) for side in SIDES}
    own, own_protocol = _own_data(state, folder, args.data_root)
    is_transfer = dataset.name not in (own or dataset.name).split("+")
    is_own = own in (None, dataset.name) and own_protocol in (None, protocol.name, protocol.long_name)
    result = {
        "dataset": dataset.name,
        "protocol": protocol.name,
        "checkpoint": str(encoder.path),
        "encoder": fingerprint(backbone),
        "epoch": state.get("epoch"),
        "where": ("" if is_own else f"_on_{dataset.name}_{protocol.name}") + encoder.where,
        "hidden_size": backbone.hidden_size,
        **{side: len(indices) for side, indices in split.items()},
        "data": ClipDataset.of_dataset(packed, np.concatenate([*split.values()]), torch.device("cpu")).fingerprint(),
        **({"adapted": adapted} if adapted else {}),
        **({"overlap": overlap} if (overlap := _overlap(state, own, own_protocol, stored, protocol)) else {}),
        "args": vars(args),
        "versions": checkpoints.versions(),
    }
    because = f"the first protocol of {dataset.name}, as --protocol names none"
    if args.protocol:
        because = "by --protocol"
    elif is_own and own_protocol:
        because = "the one that it was pre-trained on"
    return EvaluationSetup(encoder, modalities, variants, packed, protocol, split, is_transfer, because, folder, result)


@dataclass(frozen=True)
class SideFeatures:
    """Hold one side of a protocol: its recordings' representations (N, D) by name, and labels int64 (N,)."""

    features: dict[str, Tensor]
    labels: Tensor


def extract_sides(setup: EvaluationSetup) -> tuple[list[Representation], SideFeatures, SideFeatures]:
    """Compute the features of the train and val sides on the encoder's device. Return the representations (each variant
    of each modality, fitted to the train side), then both sides."""
    sources = [ClipDataset.of_dataset(setup.packed, setup.split[side], setup.encoder.device) for side in SIDES]
    plain = [plain_features(setup, source, f"features, {side}") for side, source in zip(SIDES, sources)]
    found = [
        Representation.fit(name, streams, variant, plain[0][name])
        for name, streams in setup.modalities.items()
        for variant in setup.variants
    ]
    train, val = (
        SideFeatures(represent(found, features), source.label.to(setup.encoder.device))
        for features, source in zip(plain, sources)
    )
    return found, train, val


def plain_features(setup: EvaluationSetup, source: ClipDataset, title: str) -> dict[str, Tensor]:
    """Compute the features (N, streams·D) of clips for each modality of the setup, in one pass."""
    encoder, used = setup.encoder, list(dict.fromkeys(chain.from_iterable(setup.modalities.values())))
    features = dict(zip(used, extract_features(encoder.backbone, source, used, encoder.device, title)))
    return {
        name: features[streams[0]] if len(streams) == 1 else torch.cat([features[s] for s in streams], 1)
        for name, streams in setup.modalities.items()
    }


def represent(representations: Sequence[Representation], plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Represent what `plain_features` computed, by the representations' names."""
    return {each.name: each(plain[each.modality]) for each in representations}


def _overlap(state: dict, own: str | None, own_protocol: str | None, packed: PackedDataset, protocol: Protocol) -> str:
    """Say how the encoder may have been trained on recordings of the val side; empty if it was not, or who knows."""
    names, tuned = (protocol.name, protocol.long_name), state.get("finetuned")
    if isinstance(tuned, dict) and tuned.get("dataset") == packed.name and tuned.get("protocol") not in names:
        trained = f"fine-tuned with the labels of {tuned.get('protocol')}"
    elif not own or not own_protocol or packed.name not in own.split("+"):
        return ""
    elif not set(names) & set(own_protocol.split("+")):
        trained = f"pre-trained on {own_protocol}"
    else:
        train = ClipDataset.of_dataset(packed, packed.split(protocol.name, "train"), torch.device("cpu"))
        if own != packed.name or state.get("data") in (None, train.fingerprint()):
            return ""
        trained = f"pre-trained on another train side of {own_protocol} than the data set has now"
    return f"the encoder was {trained}, which may have recordings of this val side"


def folder_of(pretrained: Path) -> Path:
    """Return the folder for a checkpoint's scores and logs: its own."""
    return pretrained if pretrained.is_dir() else pretrained.parent


def data_of(args: argparse.Namespace, state: dict, folder: Path) -> tuple[DataSet, Protocol]:
    """Choose the data set and the protocol: by the flags, else by the checkpoint's own, else by its folder's name.
    Raises UserError if there is none."""
    own = state.get("dataset")
    if own and "+" in own and not args.dataset:
        raise UserError(f"pre-trained on {own.replace('+', ' and ')}: say by --finetune-dataset what to evaluate on")
    dataset, protocol = args.dataset or own, args.protocol
    if dataset and dataset == own:
        protocol = protocol or state.get("protocol")
    return choose_data(dataset, protocol, folder.resolve().name, args.data_root)


def _own_data(state: dict, folder: Path, root: Path) -> tuple[str | None, str | None]:
    """Return the data set and the protocol that a checkpoint was trained on, by its own entries, else by its folder's
    name; None if unknown."""
    dataset, protocol = state.get("dataset"), state.get("protocol")
    if not (dataset and protocol):
        with suppress(UserError):
            row, chosen = choose_data(dataset, None, folder.resolve().name, root)
            return row.name, protocol or chosen.name
    return dataset, protocol

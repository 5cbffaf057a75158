"""Set up an evaluation: an encoder, a protocol of a data set, features of both splits, and where results go."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_gen.datasets import DataSet, Protocol, choose_data, classes_of, from_test_name, open_dataset, rows_in
from data_gen.packed.reader import SPLITS, PackedDataset
from data_gen.packed.segments import to_array
from feeder.clips import ClipDataset
from models.frozen import CENTRED, STANDARDISED, FrozenEncoder, Representation
from utils.errors import UserError
from utils.files import append_result, atomic_write, fingerprint
from utils.logs import secondary, start_log, tensorboard

log = logging.getLogger("umurl")
Curves = dict[str, list[tuple[int, float]]]  # points (epoch, value) by name


@dataclass(frozen=True)
class Evaluation:
    """An encoder and the protocol on which it is evaluated.

    indices: int64, the recordings of each split. folder: the run's. notes: on what the data set needed, or shares with
    pre-training. result: entries of every result; settings: entries of every result's settings.
    """

    encoder: FrozenEncoder
    packed: PackedDataset
    protocol: Protocol
    indices: dict[str, np.ndarray]
    folder: Path
    is_transfer: bool
    notes: list[str]
    result: dict[str, Any]
    settings: dict[str, Any]

    @classmethod
    def of(
        cls,
        encoder: FrozenEncoder,
        row: DataSet,
        protocol: Protocol,
        packed: PackedDataset,
        is_transfer: bool = False,
        notes: Sequence[str] = (),
    ) -> Evaluation:
        """Make the evaluation on a data set that is adapted to the encoder."""
        indices = {split: packed.split(protocol.name, split) for split in SPLITS}
        data = ClipDataset.of_dataset(packed, np.concatenate([*indices.values()]), torch.device("cpu")).fingerprint()
        if packed.segments is not None:
            data = fingerprint(data, to_array(packed.segments))
        result: dict[str, Any] = {"dataset": row.name, "protocol": protocol.name}
        result |= {"checkpoint": encoder.path.name, "epoch": encoder.state.get("epoch")}
        settings = {"encoder": encoder.weights_hash, "data": data}
        return cls(encoder, packed, protocol, indices, encoder.path.parent, is_transfer, list(notes), result, settings)

    def start_log(self, task: str, rank: int = 0) -> None:
        """Log to the task's file in the run's folder, first what is evaluated."""
        start_log(self.folder, task, rank)
        train, val = (f"{len(self.indices[split]):,} {split}" for split in SPLITS)
        log.info(
            f"{self.encoder.path} (epoch {self.result['epoch'] if self.result['epoch'] is not None else '?'}) on "
            f"{self.packed.path}, {self.protocol.long_name}: {train}, {val}, {self.encoder.device}"
        )
        for note in self.notes:
            log.info(f"note: {note}")

    def add(
        self, task: str, modality: str, metrics: dict[str, Any], settings: dict[str, Any], files: dict[str, str]
    ) -> None:
        """Append a result to the run's results."""
        line = {"task": task, "modality": modality, **self.result, "settings": self.settings | settings}
        append_result(self.folder, line | {"metrics": metrics, "files": files})

    def plot(self, stem: str, curves: Curves) -> None:
        """Write curves to TensorBoard."""
        with secondary("TensorBoard's log"), tensorboard(self.folder) as board:
            for name, points in curves.items():
                for step, value in points:
                    board.add_scalar(f"{stem.removeprefix('action_')}/{name}", value, step)

    def write_predictions(self, stem: str, predicted: Tensor, columns: dict[str, list]) -> str:
        """Write a table with a line for each val recording: its name, its label and the predicted one, int64 (N,), the
        classes' names, and more columns. Return the file's name."""
        classes, indices = classes_of(self.packed), self.indices["val"]
        labels, predictions = self.packed.label[indices].tolist(), predicted.tolist()
        table = {
            "name": self.packed.names[indices].tolist(),
            "label": labels,
            "predicted": predictions,
            "label_name": [classes[label] for label in labels],
            "predicted_name": [classes[label] for label in predictions],
            **columns,
        }
        return write_table(unused_path(self.folder, f"{stem}_predictions", ".csv"), table)


def unused_path(folder: Path, stem: str, suffix: str) -> Path:
    """Return the path of a new file: stem, else stem_2, stem_3..., so that no result's file is replaced."""
    number, path = 1, folder / f"{stem}{suffix}"
    while path.exists():
        number += 1
        path = folder / f"{stem}_{number}{suffix}"
    return path


def stem_of(task: str, modality: str) -> str:
    """Return the stem of the names of a task's files."""
    return task if modality == "all" else f"{task}_{modality.removeprefix('all_')}"


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> str:
    """Write columns as CSV. Return the file's name."""
    with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values())])
    return path.name


def open_evaluation(
    pretrained: str, dataset: str | None, protocol: str | None, data_root: Path, device: torch.device
) -> Evaluation:
    """Load an encoder onto `device`, and open a data set. Without a name, data set and protocol are the checkpoint's
    own, else those of its folder's name."""
    encoder = FrozenEncoder.open(pretrained, device)
    state = encoder.state
    row, chosen = choose_evaluation_data(encoder, dataset, protocol, data_root)
    stored = open_dataset(data_root, row, chosen)
    packed, note = encoder.adapt(stored)
    if packed.num_classes < 2:
        raise UserError(f"{packed.path}: has no labels, only the class {classes_of(packed)[0]!r}: nothing to evaluate")
    own = state.get("dataset") or getattr(
        (from_test_name(encoder.path.parent.resolve().name, rows_in(data_root)) or [None])[0], "name", None
    )
    notes = [text for text in (note, _overlap(state, stored, chosen)) if text]
    return Evaluation.of(encoder, row, chosen, packed, row.name not in (own or row.name).split("+"), notes)


def choose_evaluation_data(encoder: FrozenEncoder, dataset: str | None, protocol: str | None, data_root: Path) -> tuple:
    """Choose the data set and protocol: by name, else the checkpoint's own, else by the name of its folder."""
    own = encoder.state.get("dataset")
    if own and "+" in own and not dataset:
        raise UserError(f"--finetune-dataset: name one, as the encoder was pre-trained on {own.replace('+', ' and ')}")
    dataset = dataset or own
    if dataset and dataset == own:
        protocol = protocol or encoder.state.get("protocol")
    return choose_data(dataset, protocol, encoder.path.parent.resolve().name, data_root)


def _overlap(state: dict[str, Any], packed: PackedDataset, protocol: Protocol) -> str:
    """Describe a possible train/val overlap with the encoder's own training; empty if none is known."""
    names, tuned, own = (protocol.name, protocol.long_name), state.get("finetuned"), state.get("dataset")
    if tuned and tuned["dataset"] == packed.name and tuned["protocol"] not in names:
        trained = f"fine-tuned with the labels of {tuned['protocol']}"
    elif not own or packed.name not in own.split("+"):
        return ""
    elif not set(names) & set(state["protocol"].split("+")):
        trained = f"pre-trained on {state['protocol']}"
    else:
        train = ClipDataset.of_dataset(packed, packed.split(protocol.name, "train"), torch.device("cpu"))
        if own != packed.name or state.get("data") in (None, train.fingerprint()):
            return ""
        trained = f"pre-trained on another train split of {state['protocol']} than the data set has now"
    return f"the encoder was {trained}, which may have recordings of this val split"


# ---- representations -------------------------------------------------------------------------------------------------


def variants_of(centre: bool, standardise: bool) -> list[str]:
    """Return the variants of the features that --centre and --standardise ask for."""
    return [CENTRED] * centre + [STANDARDISED] * standardise


@dataclass(frozen=True)
class SplitFeatures:
    """One split's representations (N, D) by name, and labels int64 (N,)."""

    features: dict[str, Tensor]
    labels: Tensor


def extract_splits(
    evaluation: Evaluation, modalities: Sequence[str], variants: Sequence[str]
) -> tuple[dict[str, Representation], SplitFeatures, SplitFeatures]:
    """Compute features on the encoder's device. Return the representations by name (each variant of each modality,
    fitted to the train split), then both splits."""
    device = evaluation.encoder.device
    sources = [ClipDataset.of_dataset(evaluation.packed, evaluation.indices[split], device) for split in SPLITS]
    selected = [evaluation.encoder.select(name) for name in modalities]
    encoders = {encoder.modality: encoder for encoder in selected}
    plain = [plain_features(encoders, source, f"features, {split}") for split, source in zip(SPLITS, sources)]
    representations = [
        Representation.fit(encoder, variant, plain[0][name])
        for name, encoder in encoders.items()
        for variant in ("", *variants)
    ]
    by_name = {representation.name: representation for representation in representations}
    train, val = (
        SplitFeatures({name: each(features[each.modality]) for name, each in by_name.items()}, source.label.to(device))
        for features, source in zip(plain, sources)
    )
    return by_name, train, val


def plain_features(encoders: Mapping[str, FrozenEncoder], source: ClipDataset, title: str) -> dict[str, Tensor]:
    """Compute the features (N, streams·D) of one encoder with several selections of streams, in one pass."""
    streams = list(dict.fromkeys(chain.from_iterable(encoder.streams for encoder in encoders.values())))
    encoder = next(iter(encoders.values()))
    features = dict(zip(streams, encoder.features(source, streams, title)))
    return {
        each.modality: torch.cat([features[s] for s in each.streams], 1)
        if len(each.streams) > 1
        else features[each.streams[0]]
        for each in encoders.values()
    }

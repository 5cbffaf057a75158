"""Load what plots of features need: a run's encoder, its data and features of recordings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from data_gen.packed.atomic import check_replaceable
from data_gen.packed.words import counted
from models.checkpoint_files import stem_of
from torch import Tensor

from data_gen.class_names import class_label
from data_gen.datasets import Protocol
from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset
from tools.evaluation.features import FrozenEncoder, extract_features, result_name
from tools.evaluation.setup import data_of
from tools.utils.errors import UserError
from tools.utils.options import check_class_names, classes_of, open_dataset, read_class_names

_LONGEST = 200  # letters of a plot's name


def plot_path(given: Path | None, folder: Path, name: str) -> Path:
    """Return a plot's path: --out, else in the run's figures/. Raises UserError for another file type, OSError if no
    file can be written there."""
    path = given or folder / "figures" / name
    if path.suffix != Path(name).suffix:
        raise UserError(f"--out {path}: the plot is a {Path(name).suffix} file")
    check_replaceable(path)
    return path


def with_others(stem: str, others: Sequence[str]) -> str:
    """Add to a plot's name the runs that are drawn beside the first, in whose folder it lies."""
    return "_".join([stem, *others])[:_LONGEST]


def find_name(packed: PackedDataset, name: str, flag: str) -> int:
    """Return the index of a recording. Raises UserError if there is none of this name."""
    found = np.flatnonzero(packed.names == name)
    if not len(found):
        raise UserError(f"{flag} {name}: {packed.path} has no such recording; the first is {packed.names[0]}")
    return int(found[0])


def names_for(packed: PackedDataset, file: Path | None) -> list[str]:
    """Return the data set's names of its classes, or those in a file. Raises UserError, DataSetError."""
    return classes_of(packed) if file is None else check_class_names(read_class_names(file), packed.num_classes)


def class_name(names: Sequence[str], index: int) -> str:
    """Return a class's name, or its number if it has none."""
    return names[index] if index < len(names) and names[index] else class_label(index)


@dataclass(frozen=True)
class Encoded(FrozenEncoder):
    """Hold a frozen encoder and the folder of its run."""

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def epoch(self) -> int:
        return self.state.get("epoch", 0)

    @property
    def of(self) -> str:
        """Return `_of_finetune` for fine-tuned weights, else an empty text."""
        return self.where if self.where.startswith("_of_") else ""

    @property
    def run(self) -> str:
        """Return the name of its run, with that of the weights if they are not the last checkpoint's."""
        return self.folder.resolve().name + self.where

    def plot_name(self, plot: str, args: argparse.Namespace, packed: PackedDataset, protocol: Protocol) -> str:
        """Name a plot by what it shows, as results are named: other data or weights than the run's, the modality."""
        on = f"_on_{packed.name}_{protocol.name}" if args.dataset or args.protocol else ""
        return result_name(plot, on + self.where, args.modality)

    @property
    def title(self) -> str:
        """Return its default title in a plot: the run, and how long it was trained."""
        name = self.folder.resolve().name + f"/{stem_of(self.path)}" * bool(self.of)
        return f"{name}, " + (counted(self.epoch, "epoch") if self.epoch else "untrained")

    def data(self, args: argparse.Namespace, own: dict | None = None) -> tuple[PackedDataset, Protocol]:
        """Open the data set and protocol of the flags, else of `own` (a classifier), else of the checkpoint.

        Raises UserError."""
        dataset, protocol = data_of(args, own or self.state, self.folder)
        return self.adapt(open_dataset(args.data_root, dataset, protocol))[0], protocol

    def features(self, packed: PackedDataset, rows: np.ndarray, modality: str) -> Tensor:
        """Encode the recordings with these indices: features (N, streams·2·hidden), float32, on the CPU."""
        packed, _ = self.adapt(packed)  # which may have been adapted to another encoder
        source = ClipDataset.of_dataset(packed, rows, self.device)
        features = extract_features(self.backbone, source, self.streams(modality), self.device)
        return torch.cat(features, 1).cpu()

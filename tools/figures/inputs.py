"""Read what plots show: results, tables, names and features. Name the plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_gen.datasets import classes_of
from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset
from models.checkpoints import find_run
from models.frozen import FrozenEncoder
from utils.errors import UserError
from utils.files import read_results, reading
from utils.options import read_class_names
from utils.text import counted


class Data(NamedTuple):
    """The options that choose data, as `open_evaluation` takes them; None: the checkpoint's own."""

    dataset: str | None
    protocol: str | None
    data_root: Path
    device: torch.device


def find_folder(run: str) -> Path:
    """Return the folder of a run, or of a checkpoint."""
    place = find_run(run)
    return place if place.is_dir() else place.parent


def find_folders(runs: Sequence[str], labels: Sequence[str] | None) -> dict[str, Path]:
    """Return the folders of runs by title: the labels, else the runs' names."""
    folders = [find_folder(run) for run in runs]
    titles = labels or [folder.resolve().name for folder in folders]
    if len(set(titles)) < len(titles):
        raise UserError(f"two runs have one title ({', '.join(titles)}); give each its own by --labels")
    return dict(zip(titles, folders))


def file_of(encoder: FrozenEncoder) -> str:
    """Return the stem of the encoder's file; empty for the last checkpoint of a run."""
    return "" if encoder.is_last else encoder.path.name.split(".")[0]


def title_of(encoder: FrozenEncoder) -> str:
    """Return the title of an encoder: its run, its file if it is not the last checkpoint, and its epochs."""
    epochs = encoder.state.get("epoch")
    name = "/".join(filter(None, [encoder.path.parent.resolve().name, file_of(encoder)]))
    return f"{name}, {counted(epochs, 'epoch') if epochs else 'untrained'}"


def newest_result(folder: Path, task: str, modality: str, file: str = "", **entries: Any) -> dict[str, Any]:
    """Return the newest result of a task and modality, with these entries (None: any), that names a file of this kind
    (if one is asked for); {} if there is none."""
    entries = {"task": task, "modality": modality, **{name: value for name, value in entries.items() if value}}
    for result in reversed(read_results(folder)):
        if result | entries == result and (not file or file in result["files"]):
            return result
    return {}


def read_columns(path: Path, columns: Sequence[int]) -> np.ndarray:
    """Read columns of a CSV table of numbers: float64 (columns, N)."""
    settings: dict[str, Any] = {"delimiter": ",", "quotechar": '"', "comments": None, "encoding": "utf-8"}
    with reading(path):
        return np.loadtxt(path, float, skiprows=1, usecols=columns, ndmin=2, unpack=True, **settings)


def names_for(packed: PackedDataset, file: Path | None) -> list[str]:
    """Return the names of a data set's classes by label, or those in a file."""
    return read_class_names(file, packed.num_classes) if file else classes_of(packed)


def features_of(encoder: FrozenEncoder, packed: PackedDataset, indices: np.ndarray) -> Tensor:
    """Compute the features of recordings: (N, encoder.feature_size) on its device."""
    return torch.cat(encoder.features(ClipDataset.of_dataset(packed, indices, encoder.device)), 1)


def plot_path(out: Path | None, folder: Path, *parts: str | None, suffix: str = ".png") -> Path:
    """Return the path of a plot: --out, else in the run's figures/, named by the parts that are not empty."""
    path = out or folder / "figures" / ("_".join(filter(None, parts))[:200] + suffix)
    if path.suffix != suffix:
        raise UserError(f"--out {path}: the plot is a {suffix} file")
    return path

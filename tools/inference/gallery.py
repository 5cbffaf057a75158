"""A gallery: recordings whose features are searched for the nearest neighbours of others."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_gen.packed.info import INFO, is_one_line
from models.loading import fingerprint
from tools.evaluation.features import FrozenEncoder
from tools.evaluation.knn import nearest
from tools.inference.recordings import RecordingsInput, action_of
from tools.utils.errors import UserError


@dataclass(frozen=True)
class Gallery:
    """What is searched: features (G, D) on the encoder's device, names and labels (−1: unknown) of G recordings.

    `classes` are the names of the classes, empty where they are unknown; `chosen` the modalities of the features;
    `data` identifies the data set whose features were read from a file.
    """

    feature: Tensor
    names: list[str]
    labels: list[int]
    classes: list[str]
    chosen: tuple[str, ...]
    data: str = ""

    def check_queries(self, places: list[Path]) -> None:
        """Raise UserError where the queries are the data set of the gallery, with other recordings than it had."""
        if not self.data or not any((place / INFO).is_file() for place in places):
            return
        data, name = RecordingsInput(places).identity, self.data.split(" ")[0]
        if data != self.data and data.split(" ")[0] == name:
            raise UserError(
                f"--gallery: these features are of other recordings of {name} than are in {places[0]} now: write them "
                "again with tools.extract"
            )

    def nearest(self, feature: Tensor, k: int) -> list[list[dict[str, Any]]]:
        """Find the k nearest of each query (B, D), nearest first: rows as `answer_queries` prints them."""
        k = min(k, len(self.names))
        found = nearest(feature, self.feature, k)
        cosine = F.cosine_similarity(feature[:, None], self.feature[found], dim=2)
        return [[self._row(*pair) for pair in zip(*row)] for row in zip(cosine.tolist(), found.tolist())]

    def _row(self, cosine: float, place: int) -> dict[str, Any]:
        return {"cosine": cosine, "recording": self.names[place], **action_of(self.labels[place], self.classes)}


def read_gallery(place: Path, encoder: FrozenEncoder, modality: str | None) -> Gallery:
    """Make a gallery of the recordings at `place`, or of an .npz that tools.extract wrote with the same encoder. Raises
    UserError, DataSetError."""
    if place.suffix == ".npz":
        return _read_features(place, encoder, modality)
    chosen = encoder.modalities(modality or "all")
    recordings = RecordingsInput([place])
    batches = list(recordings.features(encoder, chosen))
    if recordings.bad:
        raise UserError("--gallery: cannot read " + "\n".join(f"{p}: {why}" for p, why in recordings.bad.items()))
    names = [name for batch in batches for name in batch.names]
    labels = [label for batch in batches for label in batch.labels.tolist()]
    return Gallery(torch.cat([batch.feature for batch in batches]), names, labels, recordings.classes, chosen)


def _read_features(place: Path, encoder: FrozenEncoder, modality: str | None) -> Gallery:
    try:
        with np.load(place, allow_pickle=False) as file:
            stored = {key: file[key] for key in ("feature", "name", "label", "modality", "encoder", "classes")}
            data = str(file["data"]) if "data" in file else ""  # as of older versions
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"--gallery {place}: not features that tools.extract wrote ({error})") from error
    feature, size = stored["feature"], 2 * encoder.backbone.hidden_size
    name, label, classes = (stored[key] for key in ("name", "label", "classes"))
    if (
        feature.dtype != np.float32
        or (label.dtype, label.ndim) != (np.int64, 1)
        or any(texts.dtype.kind != "U" or texts.ndim != 1 for texts in (name, classes))
        or not len(name) == len(label) > 0
        or not np.isfinite(feature).all()
        or not all(map(is_one_line, (*name.tolist(), *classes.tolist())))
    ):
        raise UserError(f"--gallery {place}: not features as tools.extract writes them; write them again")
    if str(stored["encoder"]) != fingerprint(encoder.backbone) or feature.shape != (len(stored["name"]), size):
        raise UserError(
            f"--gallery {place}: these features are of another encoder than {encoder.path}; write them again with "
            "tools.extract"
        )
    chosen = encoder.modalities(str(stored["modality"]), f"{place}: modality")
    if modality and encoder.modalities(modality) != chosen:
        raise UserError(f"--gallery {place}: these features are of modality {stored['modality']}, not {modality}")
    rows = torch.from_numpy(feature).to(encoder.device)
    names, labels, class_names = (stored[key].tolist() for key in ("name", "label", "classes"))
    return Gallery(rows, names, labels, class_names, chosen, data)

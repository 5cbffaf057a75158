"""A gallery: recordings in which others' nearest neighbours are searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from feeder.modalities import ENSEMBLE
from models.frozen import CENTRED, LARGEST, FrozenEncoder, Representation
from tools.evaluation.knn import nearest
from tools.inference.recordings import Answer, Recordings, action_of
from utils.errors import UserError
from utils.files import reading


@dataclass(frozen=True)
class Gallery:
    """G recordings: `feature` (G, D), of their representation, on the encoder's device; labels (−1: unknown).

    encoder: with the streams of the gallery's features. classes: names by label, empty if unknown.
    """

    encoder: FrozenEncoder
    representation: Representation
    feature: Tensor
    names: list[str]
    labels: list[int]
    classes: list[str]

    def nearest(self, features: Tensor, k: int, without: Sequence[str] = ()) -> list[Answer]:
        """Find the k nearest of each query, by its features (B, D) as the encoder gives them, nearest first.
        `without`: for each query, the name of a recording to leave out."""
        queries = self.representation(features)
        indices = nearest(queries, self.feature, min(k + bool(without), len(self.names)))
        cosine = F.cosine_similarity(queries[:, None], self.feature[indices], dim=2)
        answers = [[self._row(*pair) for pair in zip(*row)] for row in zip(cosine.tolist(), indices.tolist())]
        if without:
            answers = [[r for r in rows if r["recording"] != name] for rows, name in zip(answers, without)]
        return [rows[:k] for rows in answers]

    def _row(self, cosine: float, index: int) -> dict[str, float | str | None]:
        return {"cosine": cosine, "recording": self.names[index], **action_of(self.labels[index], self.classes)}


def read_gallery(
    place: Path, encoder: FrozenEncoder, modality: str | None = None, skeleton: str | None = None
) -> Gallery:
    """Make a gallery of the recordings at `place` (see `Recordings`; default modality: ensemble), or of an .npz that
    tools.extract wrote with this encoder (default: its modality).

    Its features are centred, so that cosines compare what distinguishes its recordings.
    """
    if place.suffix == ".npz":
        return _read_features(place, encoder, modality)
    selected = encoder.select(modality or ENSEMBLE)
    recordings = Recordings([place], selected, skeleton)
    batches = list(recordings.features())
    recordings.check()
    names = [name for batch in batches for name in batch.names]
    labels = [label for batch in batches for label in batch.labels]
    return _make(selected, torch.cat([batch.features for batch in batches]), names, labels, recordings.class_names)


def _make(encoder: FrozenEncoder, features: Tensor, names: list[str], labels: list[int], classes: list[str]) -> Gallery:
    # A single recording minus its mean would be zero.
    representation = Representation.fit(encoder, CENTRED if len(names) > 1 else "", features)
    return Gallery(encoder, representation, representation(features), names, labels, classes)


def _read_features(path: Path, encoder: FrozenEncoder, modality: str | None) -> Gallery:
    with reading(path, "; write features with tools.extract"):
        with np.load(path, allow_pickle=False) as file:
            names, labels, classes = (file[key].tolist() for key in ("name", "label", "classes"))
            features = torch.from_numpy(file["feature"]).to(encoder.device)
            own, weights = str(file["modality"]), str(file["encoder"])
        selected = encoder.select(own)
        if weights != encoder.weights_hash:
            raise UserError(f"holds features of another encoder than {encoder.path}")
        if modality and encoder.select(modality).streams != selected.streams:
            raise UserError(f"holds features of --modality {own}, not {modality}")
        shape = len(names), selected.feature_size
        if features.shape != shape or len(labels) != len(names) or not (features.abs() < LARGEST).all():
            raise UserError(f"holds features {tuple(features.shape)}, expected finite ones {shape}")
        return _make(selected, features, names, labels, classes)

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
from models.frozen import CENTRED, FrozenEncoder, Representation
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
        cosines = F.cosine_similarity(queries[:, None], self.feature[indices], dim=2)
        answers = []
        for query, (row, values) in enumerate(zip(indices.tolist(), cosines.tolist())):
            answer: Answer = [
                {"cosine": cosine, "recording": self.names[index], **action_of(self.labels[index], self.classes)}
                for index, cosine in zip(row, values)
                if not without or self.names[index] != without[query]
            ]
            answers.append(answer[:k])
        return answers


def read_gallery(
    place: Path, encoder: FrozenEncoder, modality: str | None = None, skeleton: str | None = None
) -> Gallery:
    """Make a gallery of the recordings at `place` (see `Recordings`; default modality: ensemble), or of an .npz that
    tools.extract wrote with this encoder (default: its modality).

    Its features are centred, so that cosines compare what distinguishes its recordings.
    """
    if place.suffix == ".npz":
        selected, features, names, labels, classes = _read_features(place, encoder, modality)
    else:
        selected = encoder.select(modality or ENSEMBLE)
        recordings = Recordings([place], selected, skeleton)
        names, labels, features = recordings.all_features()
        classes = recordings.class_names
    features = features.to(encoder.device)
    # A single recording minus its mean would be zero.
    representation = Representation.fit(selected, CENTRED if len(names) > 1 else "", features)
    return Gallery(selected, representation, representation(features), names, labels, classes)


def _read_features(
    path: Path, encoder: FrozenEncoder, modality: str | None
) -> tuple[FrozenEncoder, Tensor, list[str], list[int], list[str]]:
    with reading(path, "; write features with tools.extract"):
        with np.load(path, allow_pickle=False) as file:
            names, labels, classes = (file[key].tolist() for key in ("name", "label", "classes"))
            features = torch.from_numpy(file["feature"])
            own, weights = str(file["modality"]), str(file["encoder"])
        selected = encoder.select(own)
        if weights != encoder.weights_hash:
            raise UserError(f"holds features of another encoder than {encoder.path}")
        if modality and encoder.select(modality).streams != selected.streams:
            raise UserError(f"holds features of --modality {own}, not {modality}")
        shape = len(labels), selected.feature_size
        if features.shape != shape or not features.isfinite().all():
            raise UserError(f"holds features {tuple(features.shape)}, expected finite ones {shape}")
        return selected, features, names, labels, classes

"""Search a gallery of recordings for the nearest neighbours of others."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from data_gen.packed.info import INFO, is_one_line
from feeder.modality_names import ENSEMBLE, Streams
from models.loading import fingerprint
from torch import Tensor

from data_gen.packed.reader import PackedDataset
from tools.evaluation.features import LARGEST, FrozenEncoder
from tools.evaluation.knn import nearest
from tools.evaluation.representation import Representation
from tools.inference.recordings import RecordingsInput, action_of, identity_of
from tools.utils.encoder_options import CENTRED
from tools.utils.errors import UserError


@dataclass(frozen=True)
class Gallery:
    """Hold G recordings to search: their `representation` (G, D) on the encoder's device, names and labels (−1:
    unknown). `classes` are the names of the classes, empty if unknown; `data` identifies the data set whose features
    were read from a file."""

    representation: Representation
    feature: Tensor
    names: list[str]
    labels: list[int]
    classes: list[str]
    data: str = ""

    def check_queries(self, places: list[Path]) -> None:
        """Raise UserError if the queries are the data set of the gallery, with other recordings than it had."""
        for place in places if self.data else ():
            if not (place / INFO).is_file():
                continue
            packed = PackedDataset(place)
            if packed.name == self.data.split(" ")[0] and identity_of(packed) != self.data:
                raise UserError(
                    f"--gallery: these features are of other recordings of {packed.name} than are in {place} now: "
                    "write them again with tools.extract"
                )

    def nearest(self, feature: Tensor, k: int, without: Sequence[str] = ()) -> list[list[dict[str, Any]]]:
        """Find the k nearest of each query, given by its features (B, D), nearest first: rows as `answer_queries`
        prints them. `without` names a recording for each query that is left out."""
        feature = self.representation(feature)
        found = nearest(feature, self.feature, min(k + bool(without), len(self.names)))
        cosine = F.cosine_similarity(feature[:, None], self.feature[found], dim=2)
        rows = [[self._row(*pair) for pair in zip(*row)] for row in zip(cosine.tolist(), found.tolist())]
        if without:
            rows = [[r for r in row if r["recording"] != name] for row, name in zip(rows, without)]
        return [row[:k] for row in rows]

    def _row(self, cosine: float, place: int) -> dict[str, Any]:
        return {"cosine": cosine, "recording": self.names[place], **action_of(self.labels[place], self.classes)}


def read_gallery(place: Path, encoder: FrozenEncoder, modality: str | None, skeleton: str | None = None) -> Gallery:
    """Make a gallery from the recordings at `place` (`.csv` and `.npy` with the joints of `skeleton`), or from an .npz
    written by tools.extract with the same encoder.

    Subtract the features' mean, so that cosines compare what distinguishes the gallery's recordings. Raises UserError
    or DataSetError if the place is invalid."""
    if place.suffix == ".npz":
        return _read_features(place, encoder, modality)
    modality = modality or ENSEMBLE
    streams = encoder.streams(modality)
    recordings = RecordingsInput([place], encoder, skeleton)
    batches = list(recordings.features(streams))
    if recordings.bad:
        raise UserError("--gallery: cannot read " + "\n".join(f"{p}: {why}" for p, why in recordings.bad.items()))
    names = [name for batch in batches for name in batch.names]
    labels = [label for batch in batches for label in batch.labels.tolist()]
    return _gallery(
        modality, streams, torch.cat([batch.feature for batch in batches]), names, labels, recordings.classes
    )


def _gallery(
    modality: str, streams: Streams, feature: Tensor, names: list[str], labels: list[int], classes: list[str]
) -> Gallery:
    # A single recording minus its mean would be zero.
    representation = Representation.fit(modality, streams, CENTRED if len(names) > 1 else "", feature)
    return Gallery(representation, representation(feature), names, labels, classes)


def _read_features(place: Path, encoder: FrozenEncoder, modality: str | None) -> Gallery:
    try:
        if not place.is_file():
            raise ValueError("no such file")
        with zipfile.ZipFile(place) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed")  # and might unpack to anything
        with np.load(place, allow_pickle=False) as file:
            stored = {key: file[key] for key in ("feature", "name", "label", "modality", "encoder", "classes")}
            data = str(file["data"]) if "data" in file else ""  # as of older versions
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise UserError(f"--gallery {place}: not features that tools.extract wrote ({error})") from error
    feature, known = stored["feature"], str(stored["modality"])
    name, label, classes = (stored[key] for key in ("name", "label", "classes"))
    if (
        feature.dtype != np.float32
        or (label.dtype, label.ndim) != (np.int64, 1)
        or any(texts.dtype.kind != "U" or texts.ndim != 1 for texts in (name, classes))
        or not len(name) == len(label) > 0
        or not (np.abs(feature) < LARGEST).all()
        or not all(map(is_one_line, (*name.tolist(), *classes.tolist())))
    ):
        raise UserError(f"--gallery {place}: not features as tools.extract writes them; write them again")
    streams = encoder.streams(known, f"{place}: modality")
    size = 2 * encoder.backbone.hidden_size * len(streams)
    if str(stored["encoder"]) != fingerprint(encoder.backbone) or feature.shape != (len(name), size):
        raise UserError(
            f"--gallery {place}: these features are of another encoder than {encoder.path}; write them again with "
            "tools.extract"
        )
    if modality and encoder.streams(modality) != streams:
        raise UserError(f"--gallery {place}: these features are of modality {known}, not {modality}")
    rows = torch.from_numpy(feature).to(encoder.device)
    return replace(_gallery(known, streams, rows, name.tolist(), label.tolist(), classes.tolist()), data=data)

"""Find the recordings of a gallery that are nearest to others, by the cosine of their features.

python -m tools.search --pretrained checkpoints/ntu60_xsub --gallery data/ntu60 A.skeleton B.skeleton
python -m tools.search --pretrained checkpoints/ntu60_xsub --gallery features.npz --watch FOLDER --json
"""

from __future__ import annotations

import argparse
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.loading import fingerprint
from tools.evaluation.features import FrozenEncoder, modality_name
from tools.evaluation.knn import nearest
from tools.inference.queries import add_query_options, answer_queries
from tools.inference.recordings import Features, RecordingsInput, action_of
from tools.utils.distributed import single_process
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter, positive_int

NEIGHBOURS = 5


@dataclass(frozen=True)
class Gallery:
    """What is searched: features (G, D) on the encoder's device, names and labels (−1: unknown) of G recordings.

    `classes` are the names of the classes, empty where they are unknown; `chosen` the modalities of the features.
    """

    feature: Tensor
    names: list[str]
    labels: list[int]
    classes: list[str]
    chosen: tuple[str, ...]

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
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"--gallery {place}: not features that tools.extract wrote ({error})") from error
    feature, size = stored["feature"], 2 * encoder.backbone.hidden_size
    if str(stored["encoder"]) != fingerprint(encoder.backbone) or feature.shape != (len(stored["name"]), size):
        raise UserError(
            f"--gallery {place}: these features are of another encoder than {encoder.path}; write them again with "
            "tools.extract"
        )
    chosen = encoder.modalities(str(stored["modality"]), f"{place}: modality")
    if modality and encoder.modalities(modality) != chosen:
        raise UserError(f"--gallery {place}: these features are of modality {stored['modality']}, not {modality}")
    rows = torch.from_numpy(feature).to(encoder.device)
    return Gallery(rows, stored["name"].tolist(), stored["label"].tolist(), stored["classes"].tolist(), chosen)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_query_options(parser)
    parser.add_argument(
        "--gallery",
        type=Path,
        required=True,
        metavar="PATH",
        help="what is searched: a packed data set, a folder or archive of recordings, or an .npz from tools.extract",
    )
    parser.add_argument("-k", type=positive_int, default=NEIGHBOURS, help="how many of the nearest recordings to name")
    parser.add_argument(
        "--modality",
        type=modality_name,
        help="all (fused), one modality, or a fusion such as joint+bone; default: that of an .npz, else all",
    )
    args = parser.parse_args(argv)
    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.search"))
    gallery = read_gallery(args.gallery, encoder, args.modality)

    def answer(batch: Features) -> list[list[dict[str, Any]]]:
        return gallery.nearest(batch.feature, args.k)

    answer_queries(args, encoder, gallery.chosen, "neighbours", answer)


if __name__ == "__main__":
    run(main)

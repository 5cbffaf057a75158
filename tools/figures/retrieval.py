"""A val recording with its nearest neighbours in the train split, as stick figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from data_gen.packed.reader import PackedDataset
from feeder.clips import NUM_FRAMES, ClipDataset, ResampleClip
from feeder.modalities import ENSEMBLE
from models.frozen import CENTRED, FrozenEncoder, Representation
from tools.evaluation.knn import nearest
from tools.evaluation.setup import open_evaluation
from tools.figures import style
from tools.figures.inputs import Data, features_of, file_of, names_for, plot_path
from tools.figures.style import StickFigure, project, set_view
from utils.errors import UserError

FRAMES = 6  # of each recording


def find_neighbours(
    encoder: FrozenEncoder, packed: PackedDataset, query: int, gallery: np.ndarray, k: int
) -> dict[int, float]:
    """Find the k recordings of a gallery that are nearest to a query, all given by their indices, nearest first. Return
    their cosines, of features centred on the gallery, by index."""
    features = features_of(encoder, packed, gallery)
    representation = Representation.fit(encoder, CENTRED, features)
    features, feature = representation(features), representation(features_of(encoder, packed, np.array([query])))
    (places,) = nearest(feature, features, k)
    return dict(zip(gallery[places.cpu().numpy()].tolist(), F.cosine_similarity(feature, features[places]).tolist()))


def draw(
    packed: PackedDataset, query: int, neighbours: dict[int, float], names: Sequence[str], caption: str = ""
) -> Figure:
    """Draw the query above its neighbours, each as a row of frames with a solid (right) or dashed (wrong) border."""
    indices = [query, *neighbours]
    source = ClipDataset.of_dataset(packed, np.array(indices), torch.device("cpu"))
    heights = [0.25] + [1.15] * len(indices)
    figure = style.new_figure(sum(heights))
    top, *bands = figure.subfigures(len(heights), 1, squeeze=False, hspace=0.06, height_ratios=heights)[:, 0]
    top.text(0.02, 0.5, caption, va="center", fontsize=7)
    for place, (band, index, clip) in enumerate(zip(bands, indices, ResampleClip()(source.windows(slice(None))))):
        is_right = packed.label[index] == packed.label[query]
        paint = style.GREY if place == 0 else style.COLOURS[0] if is_right else style.COLOURS[1]
        band.patch.set(edgecolor=paint, linewidth=2, linestyle="-" if is_right else "--")
        head = f"{place} {'✓' if is_right else '✗'} cosine {neighbours[index]:.3f}" if place else "query"
        title = f"{head}: {names[packed.label[index]]}"
        band.suptitle(title, x=0.02, ha="left", weight="bold", color=paint, fontsize=8.5)
        band.text(0.98, 0.96, str(packed.names[index]), ha="right", va="top", color=style.GREY, fontsize=6)
        frames, sticks = clip.numpy(), StickFigure(packed.skeleton, clip.numpy())
        for i, axes in enumerate(band.subplots(1, FRAMES)):
            sticks.draw(axes, frames[round((i + 1) * (NUM_FRAMES - 1) / (FRAMES + 1))])
            set_view(axes, project(frames[:, sticks.people]))
    return figure


def plot_retrieval(
    checkpoint: str, query: str, k: int, modality: str, data: Data, class_names: Path | None, out: Path | None
) -> None:
    """Draw a query and its neighbours, by the representation that tools.search compares."""
    evaluation = open_evaluation(checkpoint, *data)
    packed, encoder, gallery = evaluation.packed, evaluation.encoder.select(modality), evaluation.indices["train"]
    queries = {str(packed.names[index]): int(index) for index in evaluation.indices["val"]}
    split = f"{packed.name} {evaluation.protocol.name}"
    if query not in queries:
        raise UserError(f"--query {query}: not in the val split of {split}; choose one such as {next(iter(queries))}")
    if k > len(gallery):
        raise UserError(f"-k {k}: the gallery has only {len(gallery)} recordings")
    parts = query, *data[:2], file_of(encoder), modality.replace(ENSEMBLE, "")
    path = plot_path(out, evaluation.folder, "retrieval", *parts)
    neighbours = find_neighbours(encoder, packed, queries[query], gallery, k)
    features = f"{encoder.modality} features, centred"
    caption = f"The nearest of {len(gallery):,} train recordings of {split}, by the cosine of {features}"
    figure = draw(packed, queries[query], neighbours, names_for(packed, class_names), caption)
    style.publish(figure, path, evaluation.folder)

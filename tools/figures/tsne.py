"""t-SNE of val features of some classes, for one encoder or several side by side."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

from models.frozen import normalise_streams
from tools.evaluation.setup import open_evaluation, stem_of
from tools.figures import style
from tools.figures.inputs import Data, features_of, file_of, names_for, plot_path, title_of
from utils.errors import UserError
from utils.logs import secondary, tensorboard
from utils.text import counted

PERPLEXITY = 30.0
CLASSES = 10  # as in the paper's figure


def choose_classes(labels: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Choose `count` of the classes that occur at random (default: 10, or all if there are fewer), in ascending
    order."""
    classes = np.unique(labels)
    count = count or min(CLASSES, len(classes))
    if count > len(classes):
        raise UserError(f"--classes {count}: the val split has only {counted(len(classes), 'class')}")
    return np.sort(np.random.default_rng(seed).permutation(classes)[:count])


def embed(features: Tensor, seed: int) -> np.ndarray:
    """Map features (N, D) to a plane by t-SNE on cosine distances: float32 (N, 2), equal for equal seeds."""
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    model = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    return model.fit_transform(features.double().numpy())


def draw(maps: list[np.ndarray], titles: Sequence[str], labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw maps (N, 2) of the same recordings side by side, with a marker and a colour per class."""
    classes = np.unique(labels)
    columns = min(3, len(classes))
    figure = style.new_figure(style.WIDTH / max(len(maps), 1.5) + 0.3 + 0.18 * math.ceil(len(classes) / columns))
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    size = float(np.clip(5000 / len(labels), 6, 25))
    for axes, points, title in zip(panels, maps, titles):
        for i, c in enumerate(classes):
            look = {"c": style.colour(i), "marker": style.marker(i), "s": size}
            axes.scatter(*points[labels == c].T, label=names[c], edgecolors="black", linewidths=0.25, **look)
        axes.set(title=title, xticks=[], yticks=[], box_aspect=1)
        axes.spines[:].set(visible=True, color=style.PALE)  # the axes of t-SNE mean nothing
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=columns, markerscale=(25 / size) ** 0.5)
    return figure


def plot_tsne(
    checkpoints: list[str], labels: list[str] | None, classes: int | None, seed: int, modality: str, data: Data,
    class_names: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Draw the maps, and add the features to TensorBoard's projector."""
    first = open_evaluation(checkpoints[0], *data)
    packed, same = first.packed, data._replace(dataset=first.packed.name, protocol=first.protocol.name)
    evaluations = [first, *(open_evaluation(text, *same) for text in checkpoints[1:])]
    encoders = [evaluation.encoder.select(modality) for evaluation in evaluations]
    titles = labels or [title_of(encoder) for encoder in encoders]
    parts = [*data[:2], file_of(encoders[0]), f"{classes}_classes" * bool(classes), f"seed{seed}" * bool(seed)]
    parts += [other.folder.resolve().name for other in evaluations[1:]]
    path = plot_path(out, first.folder, stem_of("tsne", modality), *parts)

    indices = first.indices["val"]
    indices = indices[np.isin(packed.label[indices], choose_classes(packed.label[indices], classes, seed))]
    names, label = names_for(packed, class_names), packed.label[indices]
    features = []
    for encoder, evaluation in zip(encoders, evaluations):
        features.append(normalise_streams(features_of(encoder, evaluation.packed, indices), encoder.streams).cpu())
    style.publish(draw([embed(values, seed) for values in features], titles, label, names), path, first.folder)
    metadata = [[names[c], packed.names[index]] for c, index in zip(label, indices)]
    silence = contextlib.redirect_stdout(io.StringIO())  # TensorBoard says where it replaces earlier features
    with secondary("TensorBoard's log"), tensorboard(first.folder) as board, silence:
        for title, values in zip(titles, features):
            board.add_embedding(values, metadata, tag=title, metadata_header=["class", "recording"])

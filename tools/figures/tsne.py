"""t-SNE of val features of some classes, for one encoder or several side by side."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
from collections.abc import Sequence

import numpy as np
from data_gen.packed.words import counted
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

from tools.figures import style
from tools.figures.encoded import Encoded, class_name, names_for, plot_path, with_others
from tools.utils.distributed import single_process
from tools.utils.errors import UserError
from tools.utils.logs import secondary, tensorboard

PERPLEXITY = 30.0
CLASSES = 10
FEWEST = 5  # recordings that a map needs


def choose_classes(labels: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Choose `count` of the classes that occur at random, by the seed. Return them in ascending order.

    Default: 10, as in the paper's figure, or all if there are fewer. Raises UserError if there are fewer than `count`.
    """
    there = np.unique(labels)
    count = count or min(CLASSES, len(there))
    if count > len(there):
        raise UserError(
            f"--classes {count}: only {counted(len(there), 'class')} among the {len(labels)} val recordings; "
            f"give --classes {len(there)} or fewer"
        )
    return np.sort(np.random.default_rng(seed).permutation(there)[:count])


def embed(features: Tensor, seed: int) -> np.ndarray:
    """Map features (N, D) to a plane by t-SNE on cosine distances: float32 (N, 2), equal for equal seeds."""
    if not features.any(1).all() or (features == features[0]).all():
        raise UserError("t-SNE needs features that differ and are not zero: are the recordings empty?")
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    model = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    return model.fit_transform(features.double().numpy())


def draw(maps: list[np.ndarray], titles: list[str], labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw maps (N, 2) of the same recordings side by side, with a marker and a colour per class."""
    classes = np.unique(labels)
    columns = min(3, len(classes))
    legend_rows = math.ceil(len(classes) / columns)
    side = style.WIDTH / max(len(maps), 1.5)
    figure = style.new_figure(side + 0.3 + 0.18 * legend_rows)
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    size = float(np.clip(5000 / len(labels), 6, 25))
    for axes, points, title in zip(panels, maps, titles):
        for i, c in enumerate(classes):
            look = {"c": style.colour(i), "marker": style.marker(i), "edgecolors": "black", "linewidths": 0.25}
            axes.scatter(*points[labels == c].T, s=size, label=class_name(names, int(c)), **look)
        axes.set(title=title, xticks=[], yticks=[], box_aspect=1)
        axes.spines[:].set(visible=True, color="#BBBBBB")  # the axes of t-SNE mean nothing
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=columns, markerscale=(25 / size) ** 0.5)
    return figure


def main(args: argparse.Namespace) -> None:
    """Draw, and add the features to TensorBoard's projector. Raises UserError."""
    device = single_process(args.device, "tools.figures")
    encoders = [Encoded.open(text, device) for text in args.checkpoints]
    first = encoders[0]
    if args.labels and len(args.labels) != len(encoders):
        given, needed = counted(len(args.labels), "title"), counted(len(encoders), "checkpoint")
        raise UserError(f"--labels: {given} for {needed}; give one for each")
    titles = args.labels or [encoder.title for encoder in encoders]
    packed, protocol = first.data(args)
    chosen = f"_{args.classes}_classes" * bool(args.classes) + f"_seed{args.seed}" * bool(args.seed)
    stem = with_others(first.plot_name("tsne", args, packed, protocol) + chosen, [e.run for e in encoders[1:]])
    out = plot_path(args.out, first.folder, f"{stem}.png")
    rows = packed.split(protocol.name, "val")
    classes = choose_classes(packed.label[rows], args.classes, args.seed)
    rows = rows[np.isin(packed.label[rows], classes)]
    if len(rows) < FEWEST:
        there = f"{counted(len(rows), 'val recording')} of {counted(len(classes), 'class')}"
        raise UserError(
            f"only {there}, and a map takes {FEWEST}: choose more --classes, or a data set or protocol with more "
            "recordings"
        )
    names, labels = names_for(packed, args.class_names), packed.label[rows]
    features = [encoder.features(packed, rows, args.modality) for encoder in encoders]
    figure = draw([embed(f, args.seed) for f in features], titles, labels, names)
    style.publish(figure, out, first.folder, stem, first.epoch)
    metadata = [[class_name(names, int(c)), packed.names[row]] for c, row in zip(labels, rows)]
    for folder in dict.fromkeys(encoder.folder for encoder in encoders):
        # One writer for all checkpoints of a run, as each writer lists only its own embeddings. It prints a line where
        # it replaces an earlier embedding, as intended.
        with secondary("TensorBoard's log"), tensorboard(folder) as board, contextlib.redirect_stdout(io.StringIO()):
            for encoder, values in zip(encoders, features):
                if encoder.folder == folder:
                    tag = f"features{encoder.of}"
                    board.add_embedding(values, metadata, None, encoder.epoch, tag, ["class", "recording"])
    what = f"{len(rows)} recordings of {counted(len(classes), 'class')}, {packed.name} {protocol.long_name}"
    print(f"t-SNE of {what}: {out}")

"""The confusion matrix of a linear probe on a protocol's val side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from tools.evaluation.features import result_name
from tools.evaluation.linear_classifier import (
    SavedClassifier,
    classifier_for,
    file_of,
    own_classifier,
    read_classifier,
    training_command,
)
from tools.evaluation.setup import folder_of
from tools.figures import style
from tools.figures.encoded import Encoded, class_name, names_for, plot_path
from tools.utils.distributed import single_process
from tools.utils.errors import UserError
from tools.utils.options import classes_of, find_run

WIDTH = 9.0  # inches, for 60 classes
FEW = 20  # with at most so many classes, both axes have names and cells have numbers
PAIRS = 10  # most confused ones, which are printed


def count(true: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how often class i (row) was taken for class j (column): int64 (num_classes, num_classes)."""
    pairs = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def shares(counts: np.ndarray) -> np.ndarray:
    """Convert rows to % of their sums; a row without recordings is zero."""
    return 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)


def most_confused(counts: np.ndarray) -> list[tuple[int, int]]:
    """List pairs (true class, predicted class), those with the largest share of the true class first."""
    share = shares(counts)
    np.fill_diagonal(share, 0)
    order = np.argsort(-share, axis=None, kind="stable")[:PAIRS]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, share.shape)) if share[i, j] > 0]


def draw(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Draw the shares of the classes that occur or are predicted."""
    classes = np.flatnonzero(counts.sum(0) + counts.sum(1))
    share, n = shares(counts)[np.ix_(classes, classes)], len(classes)
    labels = [class_name(names, int(c)) for c in classes]
    few = n <= FEW
    size = 8.0 if few else 7.0
    # High enough for the names: lines are 1.45 times the font size.
    height = 0.78 * WIDTH if n <= 60 else 1.45 * size / 72 * n
    figure = style.new_figure(height + 1.2, WIDTH)
    axes = figure.subplots()
    # With many classes, the root shows rare mistakes.
    norm = PowerNorm(1 if few else 0.5, 0, 100)
    image = axes.imshow(share, "cividis", norm=norm, aspect="auto", interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set(title=title, ylabel="true class", xlabel="predicted class" + ("" if few else ", by number"))
    axes.set_yticks(range(n), labels if few else [f"{x}  {c + 1}" for x, c in zip(labels, classes)], fontsize=size)
    if few:
        axes.set_xticks(range(n), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        _write_shares(axes, share, 8 if n <= 12 else 6.5)
    else:
        step = 1 if n <= 60 else 5
        at = range(0, n, step) if step == 1 else [i for i in range(n) if (classes[i] + 1) % step == 0]
        axes.set_xticks(at, [str(classes[i] + 1) for i in at], rotation=90, fontsize=size)
    axes.tick_params(length=2)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, shrink=0.6 if n > 60 else 1, aspect=35)
    bar.set_label("share of the true class's recordings (%)")
    bar.ax.spines["outline"].set_visible(False)
    return figure


def _write_shares(axes: Axes, share: np.ndarray, size: float) -> None:
    for (i, j), value in np.ndenumerate(share):
        if value >= 0.5:
            paint = "black" if value > 55 else "white"  # on bright and on dark cells
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=paint, fontsize=size)


def load_both(run: Path, modality: str, device: torch.device) -> tuple[Encoded, SavedClassifier]:
    """Load the classifier of a run, and the encoder that it was trained on.

    Of a checkpoint, load the classifier beside it, which must be of the same encoder; a fine-tuned encoder has its own.
    Raises UserError."""
    if not run.is_dir():
        encoder = Encoded.open(run, device)
        own = own_classifier(encoder)
        if own and modality not in ("all", own.representation.name):
            raise UserError(
                f"{run} was fine-tuned for modality {own.representation.name}: leave out --modality {modality}"
            )
        if own:
            return encoder, own
    folder = folder_of(run)
    path = folder / file_of(modality, "" if run.is_dir() else encoder.where)
    state = read_classifier(path, f"run {training_command(run, modality)} first")
    if run.is_dir():  # by its name, since the run's folder may have been moved
        encoder = Encoded.open(folder / Path(state["checkpoint"]).name, device)
    return encoder, classifier_for(encoder, path, state)


def main(args: argparse.Namespace) -> None:
    """Draw, and print the most confused pairs. Raises UserError."""
    device, run = single_process(args.device, "tools.figures"), find_run(args.checkpoint)
    encoder, classifier = load_both(run, args.modality, device)
    packed, protocol = encoder.data(args, {"dataset": classifier.dataset, "protocol": classifier.protocol})
    if (packed.name, classes_of(packed)) != (classifier.dataset, classifier.classes):
        same = (packed.name, packed.num_classes) == (classifier.dataset, len(classifier.classes))
        raise UserError(
            f"{classifier.path} knows the {len(classifier.classes)} classes of {classifier.dataset}, {packed.path} has "
            f"{'others now' if same else f'the {packed.num_classes} of {packed.name}'}: run "
            f"{training_command(run, args.modality)} on it first"
        )
    where = "" if run.is_dir() else encoder.where
    out = plot_path(args.out, encoder.folder, f"{result_name('confusion', where, args.modality)}.png")
    rows = packed.split(protocol.name, "val")
    features = encoder.features(packed, rows, classifier.representation.modality)
    predicted = classifier.scores(features.to(device)).argmax(1).cpu().numpy()
    counts, names = count(packed.label[rows], predicted, packed.num_classes), names_for(packed, args.class_names)
    what = f"{packed.name} {protocol.long_name}, {len(rows)} val recordings, modality {classifier.representation.name}"
    figure, tag = draw(counts, names, f"{encoder.title}: {what}"), out.stem if args.out is None else "confusion"
    style.publish(figure, out, encoder.folder, tag, encoder.epoch)
    share = shares(counts)
    for true, taken in most_confused(counts):
        pair = f"{class_name(names, true)} → {class_name(names, taken)}"
        print(f"{share[true, taken]:5.1f} %  {pair} ({counts[true, taken]} of {counts[true].sum()})")
    print(f"top-1 {100 * counts.trace() / counts.sum():.2f} % of {len(rows)} recordings: {out}")

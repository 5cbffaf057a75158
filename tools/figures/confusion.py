"""The confusion matrix of a linear probe or a fine-tuned model on a protocol's val split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from data_gen.datasets import DATASETS, classes_of
from models.checkpoints import find_run, load_tensors
from models.frozen import FrozenEncoder
from tools.evaluation.classifier import SavedClassifier, own_classifier, training_command
from tools.evaluation.setup import open_evaluation, stem_of
from tools.figures import inputs, style
from tools.figures.inputs import Data
from utils.errors import UserError
from utils.options import read_class_names
from utils.text import counted

WIDTH = 9.0  # inches, for 60 classes
FEW = 20  # with at most so many classes, both axes have names and cells have numbers
PAIRS = 10  # most confused ones, which are printed


def of_probe(place: Path, modality: str, data: Data) -> tuple[np.ndarray, list[str], str]:
    """Count what the newest linear probe of a run, or of one of its checkpoints, predicted, as `count` does. Return
    also the classes' names and a title."""
    folder, checkpoint = (place, None) if place.is_dir() else (place.parent, place.name)
    short = {p.long_name: p.name for row in DATASETS.values() for p in row.protocols}
    protocol = short.get(data.protocol or "", data.protocol)
    entries = {"dataset": data.dataset, "protocol": protocol, "checkpoint": checkpoint}
    result = inputs.newest_result(folder, "action_recognition", modality, "predictions", **entries)
    if not result:
        command = training_command(place, modality)
        raise UserError(f"{place}: no such linear probe of modality {modality}; run {command}")
    label, predicted = inputs.read_columns(folder / result["files"]["predictions"], (1, 2)).astype(int)
    classes = load_tensors(folder / result["files"]["classifier"])["classes"]
    title = f"{folder.resolve().name}, {counted(result['epoch'] or 0, 'epoch')}, modality {modality}"
    return count(label, predicted, len(classes)), classes, f"{title}: {result['dataset']} {result['protocol']}"


def of_model(classifier: SavedClassifier, data: Data) -> tuple[np.ndarray, list[str], str]:
    """Count what a fine-tuned model predicts on the val split, as `of_probe` does."""
    encoder, choice = classifier.encoder, (data.dataset or classifier.dataset, data.protocol or classifier.protocol)
    evaluation = open_evaluation(str(encoder.path), *choice, data.data_root, data.device)
    packed, indices = evaluation.packed, evaluation.indices["val"]
    if classes_of(packed) != classifier.classes:
        raise UserError(f"{packed.path}: its classes are not those of {classifier.path}")
    predicted = classifier.logits(inputs.features_of(encoder, packed, indices)).argmax(1).cpu().numpy()
    counts = count(packed.label[indices], predicted, packed.num_classes)
    return counts, classifier.classes, f"{inputs.title_of(encoder)}: {packed.name} {evaluation.protocol.name}"


def count(label: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how often class i (row) was taken for class j (column): int64 (num_classes, num_classes)."""
    return np.bincount(label * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def shares(counts: np.ndarray) -> np.ndarray:
    """Convert rows to % of their sums; a row without recordings is zero."""
    return 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)


def most_confused(counts: np.ndarray) -> list[tuple[int, int]]:
    """List pairs (true class, predicted class), those with the largest share of the true class first."""
    share = shares(counts) * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-share, axis=None, kind="stable")[:PAIRS]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, share.shape)) if share[i, j] > 0]


def draw(counts: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Draw the shares of the classes that occur or are predicted."""
    classes = np.flatnonzero(counts.sum(0) + counts.sum(1)).tolist()
    share, n = shares(counts)[np.ix_(classes, classes)], len(classes)
    few = n <= FEW
    figure = style.new_figure(max(8.2, 1.2 + 0.117 * n), WIDTH)  # 7 points need 0.117 inches
    axes = figure.subplots()
    norm = PowerNorm(1 if few else 0.5, 0, 100)  # with many classes, the root shows rare mistakes
    image = axes.imshow(share, "cividis", norm=norm, aspect="auto", interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set(title=title, ylabel="true class", xlabel="predicted class" + ("" if few else ", by number"))
    axes.tick_params(length=2, labelsize=8 if few else 7)
    if few:
        axes.set_yticks(range(n), [names[c] for c in classes])
        axes.set_xticks(range(n), [names[c] for c in classes], rotation=45, ha="right", rotation_mode="anchor")
        for (i, j), value in np.ndenumerate(share):
            if value >= 0.5:
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="black" if value > 55 else "white")
    else:
        axes.set_yticks(range(n), [f"{names[c]}  {c + 1}" for c in classes])
        ticks = [i for i in range(n) if n <= 60 or (classes[i] + 1) % 5 == 0]
        axes.set_xticks(ticks, [str(classes[i] + 1) for i in ticks], rotation=90)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=35)
    bar.set_label("share of the true class's recordings (%)")
    bar.ax.spines["outline"].set_visible(False)
    return figure


def plot_confusion(checkpoint: str, modality: str, data: Data, class_names: Path | None, out: Path | None) -> None:
    """Draw the confusion matrix, and print the most confused pairs."""
    place = find_run(checkpoint)
    encoder = None if place.is_dir() else FrozenEncoder.open(place, data.device)
    model = encoder and own_classifier(encoder)
    if model and modality not in ("all", model.representation.name):
        raise UserError(f"--modality {modality}: {place} was fine-tuned for {model.representation.name}")
    folder, file = inputs.find_folder(checkpoint), inputs.file_of(encoder) if encoder else ""
    path = inputs.plot_path(out, folder, stem_of("confusion", modality), data.dataset, data.protocol, file)
    counts, names, title = of_model(model, data) if model else of_probe(place, modality, data)
    names = read_class_names(class_names, len(names)) if class_names else names
    recordings = counted(int(counts.sum()), "val recording")
    for true, other in most_confused(counts):
        pair = f"{names[true]} → {names[other]} ({counts[true, other]} of {counts[true].sum()})"
        print(f"{shares(counts)[true, other]:5.1f} %  {pair}")
    print(f"top-1 {100 * counts.trace() / counts.sum():.2f} % of {recordings}")
    style.publish(draw(counts, names, f"{title}, {recordings}"), path, folder)

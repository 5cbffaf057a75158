"""The style of all plots, and how they are saved. Only this package imports matplotlib and scikit-learn."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from utils.files import atomic_write
from utils.logs import secondary, tensorboard

WIDTH = 5.5  # inches; narrow, so that 8 points can still be read on a phone
# Okabe and Ito's colours, told apart with any colour vision; their yellow last, which is pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")  # with the colours, 24 kinds differ
LINES = ("-", "--", ":", "-.")
GREY = "#777777"

matplotlib.rcParams.update({"font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 8})
matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
matplotlib.rcParams.update({"text.parse_math": False, "figure.dpi": 200})  # names may hold $


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure (sizes in inches) with room for the axes' labels. It opens no window."""
    return Figure(figsize=(width, height), layout="constrained")


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


class Curve(NamedTuple):
    """The points of L lines: x (N,), and y (L, N)."""

    x: np.ndarray
    y: np.ndarray


def draw_lines(axes: Axes, curves: Mapping[str, Curve | None]) -> dict[str, Line2D]:
    """Draw the curve of each run that has one: the mean of its lines, in a band from the lowest to the highest. Return
    the lines of the legend, by run."""
    lines = {}
    for i, (run, curve) in enumerate(curves.items()):
        if curve:
            x, y = curve
            (lines[run],) = axes.plot(x, y.mean(0), LINES[i % len(LINES)], linewidth=1.3, clip_on=False)
            step = max(1, len(x) // 6)  # so that markers of equal curves do not cover each other
            lines[run].set(color=colour(i), marker=MARKERS[i % len(MARKERS)], markersize=3, markevery=(i % step, step))
            axes.fill_between(x, y.min(0), y.max(0), color=colour(i), alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3, linewidth=0.5)
    return lines


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(buffer := io.BytesIO(), format="png")
    with Image.open(buffer) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)  # a third as large
    with atomic_write(path) as partial:
        small.save(partial, format="png", optimize=True)


def publish(figure: Figure, path: Path, folder: Path) -> None:
    """Save a plot, print its path, and add it to the images of a run's folder in TensorBoard."""
    save(figure, path)
    print(path)
    with secondary("TensorBoard's log"), Image.open(path) as image, tensorboard(folder) as board:
        board.add_image(f"figures/{path.stem}", np.asarray(image.convert("RGB")), dataformats="HWC")

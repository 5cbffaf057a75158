"""The style of all plots, and how they are saved. Only this package imports matplotlib and scikit-learn."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from data_gen.packed.atomic import atomic_write
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from tools.utils.logs import DRAWABLE, secondary, tensorboard

WIDTH = 5.5  # inches; narrow, so that 8 points can still be read on a phone
DPI = 200
# Okabe and Ito's colours, told apart with any colour vision; their yellow last, which is pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
LINES = ("-", "--", ":", "-.")
GREY = "#777777"

matplotlib.rcParams.update(
    {
        "font.size": 8,
        "text.parse_math": False,  # names may hold $
        "axes.titlesize": 9,
        "axes.labelsize": 8,
        "legend.fontsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "savefig.facecolor": "white",
    }
)


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure (sizes in inches) with room for the axes' labels. It opens no window."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Return a marker; together with the colour, 24 kinds differ."""
    return MARKERS[index % len(MARKERS)]


@dataclass(frozen=True)
class Curve:
    """The points of L lines: x (N,), and y (L, N). Raises ValueError for values that cannot be drawn."""

    x: np.ndarray
    y: np.ndarray

    def __post_init__(self) -> None:
        if self.y.shape[1:] != self.x.shape or any((np.abs(values) > DRAWABLE).any() for values in (self.x, self.y)):
            raise ValueError("no values, or too large ones")


def draw_lines(axes: Axes, curves: Mapping[str, Curve | None]) -> dict[str, Line2D]:
    """Draw the curve of each run, where it has one: the mean of its lines, in a band from the lowest to the highest.
    Return the lines of the legend, by run."""
    drawn = {}
    for i, (run, curve) in enumerate(curves.items()):
        if curve is None:
            continue
        (line,) = axes.plot(curve.x, curve.y.mean(0), LINES[i % len(LINES)], linewidth=1.3, clip_on=False)
        step = max(1, len(curve.x) // 6)  # so that markers of equal curves do not cover each other
        line.set(color=colour(i), marker=marker(i), markersize=3, markevery=(i % step, step))
        drawn[run] = line
        if len(curve.y) > 1:
            axes.fill_between(curve.x, curve.y.min(0), curve.y.max(0), color=colour(i), alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3, linewidth=0.5)
    return drawn


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as image:
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)  # a palette makes the file a third as large
    with atomic_write(path) as partial:
        few.save(partial, format="png", optimize=True)


def publish(figure: Figure, path: Path, folder: Path, tag: str, step: int = 0) -> None:
    """Save a plot, and add it to the images of a run's folder in TensorBoard."""
    save(figure, path)
    with secondary("TensorBoard's log"), Image.open(path) as image, tensorboard(folder) as board:
        board.add_image(f"figures/{tag}", np.asarray(image.convert("RGB")), step, dataformats="HWC")

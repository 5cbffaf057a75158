"""How all figures look, and where they go. Only this package imports matplotlib and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

WIDTH = 9.0  # inches: 900 pixels of a README, where 8 points are 11 pixels
DPI = 200  # twice that, for screens that show it
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
    """An empty figure, sizes in inches, whose axes make room for their labels. It belongs to no window."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Together with the colour, another one for each of 24 kinds."""
    return MARKERS[index % len(MARKERS)]


def line(index: int) -> str:
    """Together with the colour, another one for each of 8 kinds; 4 without colours."""
    return LINES[index % len(LINES)]


def hide_frame(axes: Axes) -> None:
    """Leave the drawing without ticks and spines."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all, with the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        figure.savefig(partial, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def to_board(folder: Path, tag: str, picture: Path, step: int) -> None:
    """Show a picture in TensorBoard among the run's images."""
    with Image.open(picture) as image, SummaryWriter(str(folder)) as board:
        board.add_image(f"figures/{tag}", np.asarray(image.convert("RGB")), step, dataformats="HWC")

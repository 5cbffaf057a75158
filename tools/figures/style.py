"""What plots share: style, people as stick figures, saving. Only this package imports matplotlib and scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from data_gen.skeletons import Skeleton
from utils.files import atomic_write
from utils.logs import secondary, tensorboard

WIDTH = 5.5  # inches; narrow, so that 8 points can still be read on a phone
# Okabe and Ito's colours, told apart with any colour vision; their yellow last, which is pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")  # with the colours, 24 kinds differ
GREY, PALE = "#777777", "#BBBBBB"
_YAW, _PITCH = np.radians(25), np.radians(12)  # people are seen from a little to the side and above

matplotlib.rcParams.update({"font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 8})
matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
matplotlib.rcParams.update({"text.parse_math": False, "figure.dpi": 200})  # names may hold $


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure (sizes in inches) with room for the axes' labels. It opens no window."""
    return Figure(figsize=(width, height), layout="constrained")


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def project(points: np.ndarray) -> np.ndarray:
    """Project points or vectors (..., C) to the plot: (..., 2), to the right and up. With two coordinates, y points
    down, as in images."""
    if points.shape[-1] == 2:
        return np.asarray(points, np.float64) * (1, -1)
    x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    depth = z * np.cos(_YAW) - x * np.sin(_YAW)
    return np.stack((x * np.cos(_YAW) + z * np.sin(_YAW), y * np.cos(_PITCH) + depth * np.sin(_PITCH)), -1)


def set_view(axes: Axes, points: np.ndarray) -> None:
    """Set equal scales, no frame, and limits that show all points (..., 2)."""
    flat = points.reshape(-1, 2) if points.size else np.zeros((1, 2))
    low, high = flat.min(0), flat.max(0)
    margin = np.maximum(0.06 * (high - low), 0.05 - (high - low) / 2)
    (left, bottom), (right, top) = low - margin, high + margin
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


class StickFigure:
    """Draw the people of a clip (T, M, V, C) who are not all zero, a colour per limb, the second person dashed. A limb
    begins where the skeleton branches."""

    def __init__(self, skeleton: Skeleton, clip: np.ndarray):
        self.people = [person for person in range(clip.shape[1]) if clip[:, person].any()]
        self.bones = np.array([(joint, parent) for joint, parent in enumerate(skeleton.parents) if joint != parent])
        self.limbs = [0] * len(skeleton.parents)
        self._number_limbs(skeleton.root)

    def _number_limbs(self, joint: int) -> None:
        """Number the limbs of all joints below one."""
        children = [child for child, parent in self.bones if parent == joint]
        for child in children:
            self.limbs[child] = self.limbs[joint] if len(children) == 1 else max(self.limbs) + 1
            self._number_limbs(child)

    def draw(
        self, axes: Axes, frame: np.ndarray, vectors: np.ndarray | None = None, hidden: np.ndarray | None = None
    ) -> None:
        """Draw the bones of a frame (M, V, C), pale if `vectors` (M, V, C) from its joints are drawn. `hidden` joints,
        bool (V,), are crosses, and their bones not drawn."""
        visible = np.ones(len(self.limbs), bool) if hidden is None else ~hidden
        bones = self.bones[visible[self.bones].all(1)]
        colours = np.array([colour(limb) for limb in self.limbs])
        for person in self.people:
            look: dict[str, Any] = {"linestyles": "-" if person == 0 else (0, (2.5, 1.5))}
            look["capstyle"] = "round" if person == 0 else "butt"
            points = project(frame[person])
            paint = colours[bones[:, 0]] if vectors is None else PALE
            axes.add_collection(LineCollection(list(points[bones]), colors=paint, linewidths=1.2, **look))
            axes.scatter(points[visible, 0], points[visible, 1], s=3.2, c=GREY, linewidths=0, zorder=3)
            axes.scatter(points[~visible, 0], points[~visible, 1], s=13, c=GREY, marker="x", linewidths=0.8)
            if vectors is not None:
                ends = project(frame[person] + vectors[person])
                lines = list(np.stack((points, ends), 1))
                axes.add_collection(LineCollection(lines, colors=colours, linewidths=0.9, **look))
                axes.scatter(ends[:, 0], ends[:, 1], s=2.6, c=colours, linewidths=0)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png")


def publish(figure: Figure, path: Path, folder: Path) -> None:
    """Save a plot, print its path, and add it to the images of a run's folder in TensorBoard."""
    save(figure, path)
    print(path)
    with secondary("TensorBoard's log"), tensorboard(folder) as board:
        board.add_figure(f"figures/{path.stem}", figure)

"""Draw people as stick figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from data_gen.skeletons import Skeleton
from tools.figures import style

# Seen from a little to the side and above: y is up, and depth shows.
_YAW, _PITCH = np.radians(25), np.radians(12)


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
        colours = np.array([style.colour(limb) for limb in self.limbs])
        for person in self.people:
            look: dict[str, Any] = {"linestyles": "-" if person == 0 else (0, (2.5, 1.5))}
            look["capstyle"] = "round" if person == 0 else "butt"
            points = project(frame[person])
            paint = colours[bones[:, 0]] if vectors is None else "#BBBBBB"
            axes.add_collection(LineCollection(list(points[bones]), colors=paint, linewidths=1.2, **look))
            axes.scatter(points[visible, 0], points[visible, 1], s=3.2, c=style.GREY, linewidths=0, zorder=3)
            axes.scatter(points[~visible, 0], points[~visible, 1], s=13, c=style.GREY, marker="x", linewidths=0.8)
            if vectors is not None:
                ends = project(frame[person] + vectors[person])
                lines = list(np.stack((points, ends), 1))
                axes.add_collection(LineCollection(lines, colors=colours, linewidths=0.9, **look))
                axes.scatter(ends[:, 0], ends[:, 1], s=2.6, c=colours, linewidths=0)

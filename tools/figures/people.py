"""Draw people as stick figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from data_gen.skeletons import Skeleton
from tools.figures import style

# Seen from a little to the side and above: y is up, and depth shows.
_YAW, _PITCH = np.radians(25), np.radians(12)
_SECOND = (0, (2.5, 1.5))  # dashes of the second person
_BONE, _VECTOR = 1.2, 0.9  # widths of lines, points


def project(points: np.ndarray) -> np.ndarray:
    """Project points or vectors (..., C) to the plot: (..., 2), to the right and up. With two coordinates, y points
    down, as in images."""
    if points.shape[-1] == 2:
        return np.asarray(points, np.float64) * (1, -1)
    x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    depth = z * np.cos(_YAW) - x * np.sin(_YAW)
    return np.stack((x * np.cos(_YAW) + z * np.sin(_YAW), y * np.cos(_PITCH) + depth * np.sin(_PITCH)), -1)


def present(clip: np.ndarray) -> list[int]:
    """Return the indices of the people in a clip (T, M, V, C) who are not all zero."""
    return [person for person in range(clip.shape[1]) if clip[:, person].any()]


def set_view(axes: Axes, points: np.ndarray) -> None:
    """Set equal scales, no frame, and limits that show all points (..., 2)."""
    flat = points.reshape(-1, 2)
    low, high = (flat.min(0), flat.max(0)) if len(flat) else (np.zeros(2), np.zeros(2))
    margin = np.maximum(0.06 * (high - low), 0.05 - (high - low) / 2)
    (left, bottom), (right, top) = low - margin, high + margin
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


class StickFigure:
    """Draw people of a skeleton, a colour per limb; a limb begins where the skeleton branches."""

    def __init__(self, skeleton: Skeleton):
        self.bones = [(joint, parent) for joint, parent in enumerate(skeleton.parents) if joint != parent]
        self.limbs = self._find_limbs(skeleton.parents)

    def _find_limbs(self, parents: Sequence[int]) -> list[int]:
        """Number each joint's limb."""
        children = [[j for j, p in self.bones if p == joint] for joint in range(len(parents))]
        found, todo, count = [0] * len(parents), [j for j, p in enumerate(parents) if j == p], 0
        while todo:
            joint = todo.pop()
            for child in children[joint]:
                if len(children[joint]) > 1:
                    count += 1
                found[child] = count if len(children[joint]) > 1 else found[joint]
                todo.append(child)
        return found

    def draw_frame(
        self,
        axes: Axes,
        frame: np.ndarray,
        people: Sequence[int],
        hidden: np.ndarray | None = None,
        colours: Sequence[str] = style.COLOURS,
    ) -> None:
        """Draw the bones of a frame (M, V, C), the second person's dashed.

        Joints that are `hidden`, bool (V,), are crosses, and their bones are not drawn.
        """
        there = np.ones(len(self.limbs), bool) if hidden is None else ~hidden
        for person in people:
            seen = project(frame[person])
            bones = [(j, p) for j, p in self.bones if there[j] and there[p]]
            paint = [colours[self.limbs[j] % len(colours)] for j, _ in bones]
            _draw_lines(axes, [seen[[j, p]] for j, p in bones], paint, person, _BONE)
            _draw_points(axes, seen[there], 1.5 * _BONE, style.GREY, linewidths=0, zorder=3)
            if not there.all():
                _draw_points(axes, seen[~there], 3 * _BONE, style.GREY, marker="x", linewidths=0.8, zorder=3)

    def draw_vectors(self, axes: Axes, start: np.ndarray, vectors: np.ndarray, people: Sequence[int]) -> None:
        """Draw vectors (M, V, C) from their starts (M, V, C), the second person's dashed."""
        paint = [style.colour(limb) for limb in self.limbs]
        for person in people:
            begin, end = project(start[person]), project(start[person] + vectors[person])
            _draw_lines(axes, list(np.stack((begin, end), 1)), paint, person, _VECTOR)
            _draw_points(axes, end, 1.8 * _VECTOR, paint, linewidths=0)


def _draw_lines(axes: Axes, lines: list[np.ndarray], paint: list[str], person: int, width: float) -> None:
    """Draw lines (2, 2) of a person in these colours; of the second person dashed."""
    linestyle, cap = ("-", "round") if person == 0 else (_SECOND, "butt")
    axes.add_collection(LineCollection(lines, colors=paint, linewidths=width, linestyles=linestyle, capstyle=cap))


def _draw_points(axes: Axes, points: np.ndarray, size: float, paint: str | list[str], **look: Any) -> None:
    """Draw points (N, 2) of a size in points."""
    axes.scatter(points[:, 0], points[:, 1], s=size**2, color=paint, **look)

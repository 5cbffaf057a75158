"""Draw people as stick figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from data_gen.skeletons import Skeleton
from tools.figures import style

# Seen from a little to the side and above: y is up, and depth shows.
_YAW, _PITCH = np.radians(25), np.radians(12)
_SECOND = (0, (2.5, 1.5))  # dashes of the second person


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


def set_view(axes: Axes, points: np.ndarray, margin: float = 0.06) -> None:
    """Set equal scales, no frame, and limits that show all points (..., 2)."""
    flat = points.reshape(-1, 2)
    low, high = (flat.min(0), flat.max(0)) if len(flat) else (np.zeros(2), np.zeros(2))
    middle, half = (low + high) / 2, np.maximum((high - low) / 2 * (1 + 2 * margin), 0.05)
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.set_aspect("equal")
    style.hide_frame(axes)


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
        *,
        hidden: np.ndarray | None = None,
        colours: Sequence[str] = style.COLOURS,
        width: float = 1.2,
    ) -> None:
        """Draw the bones of a frame (M, V, C), the second person's dashed.

        Joints that are `hidden`, bool (V,), are crosses, and their bones are not drawn.
        """
        there = np.ones(len(self.limbs), bool) if hidden is None else ~hidden
        for person in people:
            seen = project(frame[person])
            bones = [(j, p) for j, p in self.bones if there[j] and there[p]]
            axes.add_collection(
                LineCollection(
                    [seen[[j, p]] for j, p in bones],
                    colors=[colours[self.limbs[j] % len(colours)] for j, _ in bones],
                    linewidths=width,
                    linestyles="-" if person == 0 else _SECOND,
                    capstyle="round" if person == 0 else "butt",
                )
            )
            axes.scatter(seen[there, 0], seen[there, 1], s=(1.5 * width) ** 2, color=style.GREY, linewidths=0, zorder=3)
            if not there.all():
                axes.scatter(
                    seen[~there, 0],
                    seen[~there, 1],
                    s=(3 * width) ** 2,
                    color=style.GREY,
                    marker="x",
                    linewidths=0.8,
                    zorder=3,
                )

    def draw_vectors(
        self, axes: Axes, start: np.ndarray, vectors: np.ndarray, people: Sequence[int], width: float = 0.9
    ) -> None:
        """Draw vectors (M, V, C) from their starts (M, V, C), the second person's dashed."""
        for person in people:
            begin, end = project(start[person]), project(start[person] + vectors[person])
            axes.add_collection(
                LineCollection(
                    list(np.stack((begin, end), 1)),
                    colors=[style.colour(limb) for limb in self.limbs],
                    linewidths=width,
                    linestyles="-" if person == 0 else _SECOND,
                )
            )
            axes.scatter(
                end[:, 0],
                end[:, 1],
                s=(1.8 * width) ** 2,
                color=[style.colour(limb) for limb in self.limbs],
                linewidths=0,
            )

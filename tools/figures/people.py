"""Stick figures. All that the figures know of a skeleton's joints is here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from tools.figures import style

# Seen from a little to the side and above: y is up, and depth shows.
_YAW, _PITCH = np.radians(25), np.radians(12)
_SECOND = (0, (2.5, 1.5))  # dashes of everybody but the first person


def limbs(parents: Sequence[int]) -> list[int]:
    """A number for each joint's limb, the root's 0: a new one begins where the skeleton branches."""
    found, count = [0] * len(parents), 0
    todo = [joint for joint, parent in enumerate(parents) if joint == parent]
    while todo:
        joint = todo.pop()
        children = [child for child, parent in enumerate(parents) if parent == joint != child]
        for child in children:
            count += len(children) > 1
            found[child] = count if len(children) > 1 else found[joint]
        todo += children
    return found


def project(points: np.ndarray) -> np.ndarray:
    """Points or vectors (..., 3) as they are seen: (..., 2), to the right and up. Of two coordinates (..., 2), which
    are an image's, the second counts downwards."""
    points = np.asarray(points, np.float64)
    if points.shape[-1] == 2:
        return points * (1, -1)
    x, y, z = np.moveaxis(points, -1, 0)
    depth = z * np.cos(_YAW) - x * np.sin(_YAW)
    return np.stack((x * np.cos(_YAW) + z * np.sin(_YAW), y * np.cos(_PITCH) + depth * np.sin(_PITCH)), -1)


def present(clip: np.ndarray) -> list[int]:
    """Which people are in a clip (T, M, V, C): those not zero throughout."""
    return [person for person in range(clip.shape[1]) if clip[:, person].any()]


def set_view(axes: Axes, points: np.ndarray, margin: float = 0.06) -> None:
    """Equal axes without a frame, that hold all points (..., 2) seen."""
    flat = points.reshape(-1, 2)
    low, high = (flat.min(0), flat.max(0)) if len(flat) else (np.zeros(2), np.zeros(2))
    middle, half = (low + high) / 2, np.maximum((high - low) / 2 * (1 + 2 * margin), 0.05)
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.set_aspect("equal")
    style.hide_frame(axes)


class StickFigures:
    """How people of one skeleton are drawn: a colour for each limb, everybody but the first person dashed."""

    def __init__(self, parents: Sequence[int]):
        """`parents` holds each joint's parent, the root's itself."""
        self.bones = [(joint, parent) for joint, parent in enumerate(parents) if joint != parent]
        self.limbs = limbs(parents)

    def draw_frame(
        self,
        axes: Axes,
        frame: np.ndarray,
        people: Sequence[int],
        *,
        hidden: np.ndarray | None = None,
        colours: Sequence[str] = style.COLOURS,
        width: float = 1.6,
    ) -> None:
        """The bones of a frame (M, V, C). Joints that are `hidden`, bool (V,), are crosses, and what hangs on them is
        not drawn."""
        there = np.ones(len(self.limbs), bool) if hidden is None else ~hidden
        for person in people:
            seen = project(frame[person])
            bones = [(j, p) for j, p in self.bones if there[j] and there[p]]
            paint = [colours[self.limbs[j] % len(colours)] for j, _ in bones]
            _add_lines(axes, [seen[[j, p]] for j, p in bones], paint, person, width)
            joints, crosses = seen[there], seen[~there]
            axes.scatter(joints[:, 0], joints[:, 1], s=(1.5 * width) ** 2, color=style.GREY, linewidths=0, zorder=3)
            if len(crosses):
                axes.scatter(
                    crosses[:, 0],
                    crosses[:, 1],
                    s=(3 * width) ** 2,
                    color=style.GREY,
                    marker="x",
                    linewidths=0.8,
                    zorder=3,
                )

    def draw_vectors(
        self, axes: Axes, start: np.ndarray, vectors: np.ndarray, people: Sequence[int], width: float = 1.2
    ) -> None:
        """Vectors (M, V, C) from where they start, (M, V, C), with a dot at their end."""
        paint = [style.colour(limb) for limb in self.limbs]
        for person in people:
            begin, end = project(start[person]), project(start[person] + vectors[person])
            _add_lines(axes, list(np.stack((begin, end), 1)), paint, person, width)
            axes.scatter(end[:, 0], end[:, 1], s=(1.8 * width) ** 2, color=paint, linewidths=0)


def _add_lines(axes: Axes, lines: list[np.ndarray], colours: list[str], person: int, width: float) -> None:
    first = person == 0
    axes.add_collection(
        LineCollection(
            lines,
            colors=colours,
            linewidths=width,
            linestyles="-" if first else _SECOND,
            capstyle="round" if first else "butt",
        )
    )

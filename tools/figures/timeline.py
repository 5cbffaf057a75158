"""The actions of a long recording over time: a lane per class, the truth beside the predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from tools.figures import style

ROW = 120.0  # seconds that one row shows
MOST_ROWS = 6
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)  # possible distances, seconds
LANE = 0.17  # inches

Segments = Sequence[tuple[int, int, str]]  # start, end, class


def draw(
    name: str, seconds: float, frame_rate: float, predicted: Segments, truth: Segments | None, classes: Sequence[str]
) -> Figure:
    """Draw a recording's segments, given in frames, over time; a long recording takes several rows. The classes that
    occur have lanes, in the order of `classes`."""
    occurring = {label for _, _, label in (*predicted, *(truth or ()))}
    lanes = [label for label in classes if label in occurring] + sorted(occurring.difference(classes))
    rows = min(MOST_ROWS, max(1, math.ceil(seconds / ROW)))
    height, shift = (0.7, 0.0) if truth is None else (0.38, 0.2)
    distance = next((s for s in _TICKS if seconds / rows <= 8 * s), _TICKS[-1])
    figure = style.new_figure(rows * (LANE * max(2, len(lanes)) + 0.35) + 0.5)
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        for segments, y, paint in ((truth or (), -shift, style.GREY), (predicted, shift, style.colour(0))):
            for start, end, label in segments:
                place = lanes.index(label) + y
                axes.barh(place, (end - start) / frame_rate, height, start / frame_rate, color=paint)
        axes.set_yticks(range(len(lanes)), lanes)
        axes.set_ylim(max(1, len(lanes)) - 0.5, -0.5)
        axes.set_xlim(row * seconds / rows, (row + 1) * seconds / rows)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MultipleLocator(distance))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{int(t) // 60}:{int(t) % 60:02d}"))
        axes.grid(axis="y", alpha=0.3, linewidth=0.5)
        axes.set_axisbelow(True)
    axes.set_xlabel("time (minutes:seconds)")
    handles = [Patch(color=style.colour(0), label="predicted")]
    if truth is not None:
        handles.append(Patch(color=style.GREY, label="truth"))
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    figure.suptitle(name, x=0.01, ha="left", fontsize=9)
    return figure

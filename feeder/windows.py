"""Windows that slide over a long recording, each normalised like a trimmed clip of the same frames.

Each window alone decides who is person 0, how gaps are filled and how people are turned (docs/method.md, 2). So
nothing depends on later frames, and an encoder sees what it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from data_gen.raw.normalise import normalise
from feeder.layout import FrameLayout

GAP = 15  # frames; a shorter one is taken for a fault of the sensor


class Window(NamedTuple):
    """start: the window's first frame in the recording. clip: float32 (W, M, V, C), normalised. present: bool (W,),
    False in gaps of at least GAP frames in which nobody is seen."""

    start: int
    clip: np.ndarray
    present: np.ndarray


def slide(blocks: Iterable[np.ndarray], length: int, stride: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cut windows of `length` frames, one every `stride` frames, from a recording that comes in blocks (T, ...).

    Yields (start, frames). The last window ends with the recording, whatever the stride. A recording shorter than
    `length` is one window.
    """
    buffer: np.ndarray | None = None
    first, start = 0, 0  # first frame of the buffer and of the next window
    for block in blocks:
        buffer = block if buffer is None else np.concatenate((buffer, block))
        while start + length <= first + len(buffer):
            yield start, buffer[start - first : start - first + length]
            start += stride
        kept = max(0, min(start, first + len(buffer) - length) - first)
        buffer, first = buffer[kept:], first + kept
    if buffer is None or not len(buffer):
        return
    end = first + len(buffer)
    if start == 0 or start - stride + length < end:
        last = max(0, end - length)
        yield last, buffer[last - first :]


def normalise_window(start: int, frames: np.ndarray, layout: FrameLayout) -> Window:
    """Normalise a window's frames, (W, slots, V, C) as recorded, like a clip's."""
    clip = normalise(frames.astype(np.float64), layout.skeleton, layout.people)
    return Window(start, clip, ~long_gaps((frames != 0).any(axis=(1, 2, 3)), GAP))


def long_gaps(present: np.ndarray, least: int) -> np.ndarray:
    """Mark runs of at least `least` False frames (or of all T) in `present`, bool (T,): bool (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], present, [True])).astype(np.int8)))
    result = np.zeros(len(present), bool)
    for begin, end in edges.reshape(-1, 2):
        result[begin:end] = end - begin >= min(least, len(present))
    return result

"""Turn scores of windows into scores of frames, and these into segments."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

CLIP_THRESHOLD, DETECTOR_THRESHOLD = 0.3, 0.2  # defaults


class Detection(NamedTuple):
    """A detected action: frames [start, end), class, and the mean score of the frames that have this class."""

    start: int
    end: int
    label: int
    confidence: float


def frame_scores(windows: Iterable[tuple[int, np.ndarray]], num_frame: int, num_classes: int) -> np.ndarray:
    """Average the scores of windows, (start, float (W, classes)), over the frames that they share: float64
    (num_frame, classes). A window counts most in its middle, where it shows what is before and after."""
    total, weight = np.zeros((num_frame, num_classes)), np.zeros((num_frame, 1))
    for start, scores in windows:
        importance = triangle(len(scores))[:, None]
        total[start : start + len(scores)] += importance * scores
        weight[start : start + len(scores)] += importance
    return total / weight


def triangle(length: int) -> np.ndarray:
    """Return weights of a window's frames, float64 (length,): rising to the middle, nowhere zero."""
    return np.minimum(np.arange(length), np.arange(length)[::-1]) + 1.0


def decode(scores: np.ndarray, threshold: float, shortest: int) -> list[Detection]:
    """Find the segments of a recording, in order, by the scores of its frames (T, classes). Segments do not overlap.

    A frame has the label of its highest score if that reaches the threshold, else none. Frames of one label make a
    segment, even if up to `shortest` other frames interrupt them, unless another label has all of `shortest` frames
    between them. Segments of less than `shortest` frames are dropped. Of segments that would overlap, the one with most
    frames of its label is complete, and the others lose what lies within.
    """
    label, best = scores.argmax(1), scores.max(1)
    label[best < threshold] = -1
    edges = np.flatnonzero(np.diff(label, prepend=-2, append=-2))
    solid = edges[:-1][(np.diff(edges) >= shortest) & (label[edges[:-1]] >= 0)]
    is_wall, is_taken = np.zeros((2, len(label) + 1), bool)
    is_wall[solid] = True  # no gap that begins here is closed
    queue: list[tuple[int, int, np.ndarray]] = []

    def enqueue(frames: np.ndarray) -> None:
        """Cut the frames of a label at gaps that stay open, and queue the parts that are long enough."""
        cuts = np.flatnonzero((np.diff(frames) > shortest + 1) | is_wall[frames[:-1] + 1]) + 1
        for part in np.split(frames, cuts):
            if len(part) and part[-1] + 1 - part[0] >= shortest:
                heappush(queue, (-len(part), int(part[0]), part))

    for each in np.unique(label[label >= 0]):
        enqueue(np.flatnonzero(label == each))
    segments = []
    while queue:
        _, start, frames = heappop(queue)
        end = int(frames[-1]) + 1
        if is_taken[start:end].any():
            enqueue(frames[~is_taken[frames]])
        else:
            segments.append(Detection(start, end, int(label[start]), float(best[frames].mean())))
            is_taken[start:end] = is_wall[start] = True
    return sorted(segments)

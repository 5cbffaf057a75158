"""Turn scores of frames into segments, while the recording comes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

# Where no flag says otherwise:
FRAME_RATE = 30.0  # of recordings that do not tell theirs
WINDOW = "2s"
CLIP_THRESHOLD, DETECTOR_THRESHOLD = 0.3, 0.2


class Detection(NamedTuple):
    """A detected action: frames [start, end), class, and the mean score of its frames."""

    start: int
    end: int
    label: int
    confidence: float


class _Run(NamedTuple):
    """Frames [start, end) of one label (−1: none); `frames` of them have it, `total` is the sum of their scores."""

    label: int
    start: int
    end: int
    frames: int
    total: float


def decode(blocks: Iterable[np.ndarray], threshold: float, shortest: int) -> Iterator[Detection]:
    """Find segments in scores of frames, given in blocks (T, classes) of one recording.

    A frame has the label of its highest score if that reaches the threshold, else none. Frames of one label make a
    segment, even if up to `shortest` other frames interrupt them; segments of less than `shortest` frames are dropped.
    Yields each segment once it cannot grow, in order; segments do not overlap.
    """
    current: _Run | None = None
    for run in _runs(blocks, threshold):
        if current and run.label == current.label and run.start - current.end <= shortest:
            frames, total = current.frames + run.frames, current.total + run.total
            current = _Run(run.label, current.start, run.end, frames, total)
        elif run.label < 0:
            if current and run.end - current.end > shortest:
                yield _detection(current)
                current = None
        elif run.end - run.start >= shortest:
            if current:
                yield _detection(current)
            current = run
    if current:
        yield _detection(current)


def _detection(run: _Run) -> Detection:
    return Detection(run.start, run.end, run.label, run.total / run.frames)


def _runs(blocks: Iterable[np.ndarray], threshold: float) -> Iterator[_Run]:
    """Yield runs of equal labels; of no label in several pieces, so that the segment before can end at once."""
    last: _Run | None = None
    frame = 0
    for scores in blocks:
        label, best = scores.argmax(1), scores.max(1)
        label[best < threshold] = -1
        bounds = [0, *(np.flatnonzero(np.diff(label)) + 1).tolist(), len(label)]
        for start, end in zip(bounds, bounds[1:]):
            run = _Run(int(label[start]), frame + start, frame + end, end - start, float(best[start:end].sum()))
            if last and last.label == run.label:
                last = last._replace(end=run.end, frames=last.frames + run.frames, total=last.total + run.total)
            else:
                if last:
                    yield last
                last = run
        frame += len(label)
        if last and last.label < 0:
            yield last
            last = None
    if last:
        yield last

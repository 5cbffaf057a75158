"""Turn scores of overlapping windows into scores of frames, while the recording comes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def frame_scores(windows: Iterable[tuple[int, np.ndarray]]) -> Iterator[np.ndarray]:
    """Average the scores of windows, (start, float (W, K)) in ascending order, over the frames that they share.

    A window counts most in its middle, where it shows what is before and after. Yields scores (T, K) of the frames in
    blocks, in order, as soon as no later window can change them.
    """
    total = weight = None
    first = 0
    for start, scores in windows:
        importance = triangle(len(scores))[:, None]
        if total is None or weight is None:
            total, weight = np.zeros((0, scores.shape[1])), np.zeros((0, 1))
        done = start - first
        if done > 0:
            yield total[:done] / weight[:done]
            total, weight, first = total[done:], weight[done:], start
        missing = len(scores) - len(total)
        total, weight = (np.pad(array, ((0, max(0, missing)), (0, 0))) for array in (total, weight))
        total[: len(scores)] += importance * scores
        weight[: len(scores)] += importance
    if total is not None and weight is not None and len(total):
        yield total / weight


def triangle(length: int) -> np.ndarray:
    """Return weights of a window's frames, float64 (length,): rising to the middle, nowhere zero."""
    return np.minimum(np.arange(length), np.arange(length)[::-1]) + 1.0

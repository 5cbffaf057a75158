"""Windows that slide over a long recording, each normalised like a trimmed clip of the same frames.

Each window alone decides who is person 0, how gaps are filled and how people are turned (docs/method.md, 2). So
nothing depends on later frames, and an encoder sees windows as it sees clips.
"""

from __future__ import annotations

import numpy as np

from data_gen.raw.normalise import normalise
from data_gen.skeletons import FrameLayout

GAP = 15  # frames; a shorter one is taken for a fault of the sensor


def starts(num_frame: int, length: int, stride: int) -> list[int]:
    """Return the first frames of windows of `length` frames: one every `stride`, and one that ends with the recording.
    A recording of at most `length` frames is one window."""
    last = max(0, num_frame - length)
    return [*range(0, last, stride), last]


def normalise_window(frames: np.ndarray, layout: FrameLayout) -> tuple[np.ndarray, np.ndarray]:
    """Normalise a window's frames (W, slots, V, C), as recorded, like a clip's: float32 (W, M, V, C).

    Return also which frames are present, bool (W,): not those in gaps of at least GAP frames (or of all frames) without
    a body.
    """
    present = (frames != 0).any(axis=(1, 2, 3))
    edges = np.flatnonzero(np.diff(present, prepend=True, append=True))
    for begin, end in edges.reshape(-1, 2):
        present[begin:end] = end - begin < min(GAP, len(frames))
    return normalise(frames.astype(np.float64), layout.skeleton, layout.people), present

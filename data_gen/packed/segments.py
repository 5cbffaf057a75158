"""Segments of long recordings: which action happens from when to when.

segments.npy is int64 (S, 4), one row per segment: recording, start, end, class. Frames count from 0, and the end is the
first frame after the segment. Rows ascend by recording and start; segments of a recording do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.errors import UserError

FILE = "segments.npy"
NO_LABEL = -1  # the label of a recording that has segments instead


class Segment(NamedTuple):
    """One action: frames [start, end) of a recording, and its class from 0."""

    start: int
    end: int
    label: int


def find_fault(segments: Sequence[Segment], num_frame: float, num_classes: int) -> tuple[int, str] | None:
    """Check a recording's segments, in any order. Returns the index of a wrong one and the reason; None if there is
    none. Of two that overlap, the later one in the sequence is wrong. num_frame: infinite if unknown."""
    for i, (start, end, label) in enumerate(segments):
        if not 0 <= label < num_classes:
            return i, f"class {label} lies outside 0..{num_classes - 1}"
        if not 0 <= start < end:
            return i, f"frames {start} to {end}: a segment starts at 0 or later, and ends after its start"
        if end > num_frame:
            return i, f"frames {start} to {end} go beyond the recording's {num_frame}"
    order = sorted(range(len(segments)), key=segments.__getitem__)
    for first, second in zip(order, order[1:]):
        a, b = segments[first], segments[second]
        if b.start < a.end:
            return max(first, second), f"frames {a.start} to {a.end} and {b.start} to {b.end} overlap"
    return None


def to_array(segments: Sequence[Sequence[Segment]]) -> np.ndarray:
    """Arrange each recording's segments as in segments.npy: int64 (S, 4)."""
    rows = [(recording, *segment) for recording, some in enumerate(segments) for segment in sorted(some)]
    return np.array(rows, np.int64).reshape(-1, 4)


def from_array(rows: np.ndarray, num_frame: np.ndarray, num_classes: int) -> list[list[Segment]]:
    """Return each recording's segments. Raises UserError for rows that `to_array` would not return."""
    if len(rows) and not 0 <= rows[:, 0].min() <= rows[:, 0].max() < len(num_frame):
        raise UserError(f"a segment lies outside the {len(num_frame)} recordings")
    order = [tuple(row) for row in rows[:, :2].tolist()]
    if any(a > b for a, b in zip(order, order[1:])):
        raise UserError("the segments do not ascend")
    result: list[list[Segment]] = [[] for _ in num_frame]
    for recording, *segment in rows.tolist():
        result[recording].append(Segment(*segment))
    for recording, segments in enumerate(result):
        if fault := find_fault(segments, int(num_frame[recording]), num_classes):
            raise UserError(f"recording {recording}: {fault[1]}")
    return result

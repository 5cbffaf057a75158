"""Measure detection as in PKU-MMD's protocol: mean average precision of segments, and F1 of frames.

A detection is right at an overlap θ if its intersection over union with a true segment of its recording and class is
at least θ. It is compared with the true segment that it overlaps most (the earliest of several). Of several detections
of one true segment, one is right, the others are wrong. Average precision is the area below the curve of precision
over recall, where the precision at a recall is the highest at that recall or above. Detections of equal confidence
enter together, so their order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_gen.packed.segments import Segment
from tools.detection.decoding import Detection

OVERLAPS = tuple(round(0.1 * n, 1) for n in range(1, 8))
MARKED = 0.5  # the overlap that is usually reported

Found = Sequence[Sequence[Detection]]  # per recording
Truth = Sequence[Sequence[Segment]]


def mean_ap(found: Found, truth: Truth, overlap: float) -> dict[str, float]:
    """Compute mAP in %, by action and by video: the mean average precision of the classes, or of the recordings, that
    have a true segment; 0 if none has."""
    hits = [(v, d, _target(d, truth[v], overlap)) for v, those in enumerate(found) for d in those]
    segments = [(v, s) for v, those in enumerate(truth) for s in those]
    by_action = _mean(hits, segments, lambda video, segment: segment.label)
    return {"by_action": by_action, "by_video": _mean(hits, segments, lambda video, segment: video)}


def _mean(hits: list, segments: list, group: Callable[[int, Any], int]) -> float:
    sizes: dict[int, int] = {}
    for video, segment in segments:
        sizes[group(video, segment)] = sizes.get(group(video, segment), 0) + 1
    members: dict[int, list[tuple[float, tuple | None]]] = {key: [] for key in sizes}
    for video, detection, target in hits:
        if group(video, detection) in members:
            key = None if target is None else (video, target)
            members[group(video, detection)].append((detection.confidence, key))
    values = [average_precision(members[key], size) for key, size in sizes.items()]
    return 100.0 * float(np.mean(values)) if values else 0.0


def _target(detection: Detection, segments: Sequence[Segment], overlap: float) -> int | None:
    """Return the index of the true segment that a detection finds, or None."""
    best, found = 0.0, None
    for i, segment in enumerate(segments):
        if segment.label == detection.label and (ratio := intersection_over_union(detection, segment)) > best:
            best, found = ratio, i
    return found if best >= overlap else None


def intersection_over_union(a: Detection | Segment, b: Detection | Segment) -> float:
    shared = max(0, min(a.end, b.end) - max(a.start, b.start))
    return shared / (a.end - a.start + b.end - b.start - shared)


def average_precision(detections: Sequence[tuple[float, Any]], positives: int) -> float:
    """Compute the average precision of detections (confidence, what is found or None), with `positives` to find."""
    confidence = np.array([c for c, _ in detections], float)
    order = np.argsort(-confidence, kind="stable")
    seen: set = set()
    right = np.zeros(len(order))
    for rank, i in enumerate(order):
        target = detections[i][1]
        right[rank] = target is not None and target not in seen
        seen.add(target)
    # The curve has its points at the last of each group of equal confidence.
    last = np.append(np.diff(confidence[order]) != 0, True)[: len(order)]
    count = np.cumsum(right)[last]
    precision = count / (np.flatnonzero(last) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(count, prepend=0) / positives) @ best)


def frame_f1(found: Found, truth: Truth) -> float:
    """Compute the F1 of frames in %: a frame is right if its class is found; background is no class. 0 if none is
    right."""
    right = marked = there = 0
    for detections, segments in zip(found, truth):
        marked += sum(d.end - d.start for d in detections)
        there += sum(s.end - s.start for s in segments)
        for d in detections:
            right += sum(max(0, min(d.end, s.end) - max(d.start, s.start)) for s in segments if s.label == d.label)
    return 100.0 * 2 * right / (marked + there) if right else 0.0


def measure(found: Found, truth: Truth) -> dict[str, Any]:
    """Compute `mAP` by overlap, `f1`, and the numbers of true (`segments`) and found segments (`found`)."""
    return {
        "mAP": {str(overlap): mean_ap(found, truth, overlap) for overlap in OVERLAPS},
        "f1": frame_f1(found, truth),
        "segments": sum(map(len, truth)),
        "found": sum(map(len, found)),
    }

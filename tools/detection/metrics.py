"""Measure detection as in PKU-MMD's protocol: mean average precision of segments, and F1 of frames.

A detection is right at an overlap θ if its intersection over union with a true segment of its recording and class is
at least θ. It is compared with the true segment that it overlaps most (the earliest of several). Of several detections
of one true segment, one is right, the others are wrong. Average precision is the area below the curve of precision
over recall, where the precision at a recall is the highest at that recall or above. Detections of equal confidence
enter together, so their order does not matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_gen.packed.segments import Segment
from tools.detection.decoding import Detection

OVERLAPS = tuple(round(0.1 * n, 1) for n in range(1, 8))
MARKED = 0.5  # the overlap that is usually reported

Found = Sequence[Sequence[Detection]]  # per recording
Truth = Sequence[Sequence[Segment]]
Hit = tuple[float, Any]  # a detection's confidence, and what it finds or None


def mean_ap(found: Found, truth: Truth, overlap: float) -> dict[str, float]:
    """Compute mAP in %, by action and by video: the mean average precision of the classes, or of the recordings, that
    have a true segment; 0 if none has."""
    sizes = {"by_action": Counter[int](), "by_video": Counter[int]()}  # true segments of each class, each recording
    hits = {name: defaultdict[int, list[Hit]](list) for name in sizes}
    for video, (detections, segments) in enumerate(zip(found, truth)):
        sizes["by_action"].update(segment.label for segment in segments)
        sizes["by_video"].update([video] * len(segments))
        for detection in detections:
            target = _target(detection, segments, overlap)
            hit = detection.confidence, None if target is None else (video, target)
            hits["by_action"][detection.label].append(hit)
            hits["by_video"][video].append(hit)
    result = {}
    for name, counts in sizes.items():
        values = [average_precision(hits[name][key], size) for key, size in counts.items()]
        result[name] = 100.0 * float(np.mean(values)) if values else 0.0
    return result


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


def average_precision(detections: Sequence[Hit], positives: int) -> float:
    """Compute the average precision of detections, with `positives` to find."""
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


def measure_detection(found: Found, truth: Truth) -> dict[str, Any]:
    """Compute `mAP` by overlap, `f1`, and the numbers of true (`segments`) and found segments (`found`)."""
    return {
        "mAP": {str(overlap): mean_ap(found, truth, overlap) for overlap in OVERLAPS},
        "f1": frame_f1(found, truth),
        "segments": sum(map(len, truth)),
        "found": sum(map(len, found)),
    }

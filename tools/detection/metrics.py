"""Measure detection as in PKU-MMD's protocol: mean average precision of segments, and F1 of frames.

A detection is right at an overlap θ if its intersection over union with a true segment of its recording and class is
at least θ. It is compared with the true segment that it overlaps most (the earliest of several). Of several detections
of one true segment, one is right, the others are wrong. Average precision is the area below the curve of precision
over recall, where the precision at a recall is the highest at that recall or above. Detections of equal confidence
enter together, so their order does not matter.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from data_gen.packed.segments import Segment
from tools.detection.scoring import Detection

REPORTED = 0.5  # the overlap that is usually reported
OVERLAPS = tuple(round(0.1 * n, 1) for n in range(1, 8))

Detections = Sequence[Sequence[Detection]]  # per recording
Truth = Sequence[Sequence[Segment]]  # per recording; in order, without overlap
Hit = tuple[float, Any]  # a detection's confidence, and the true segment that it finds or None


def measure_detection(detections: Detections, truth: Truth) -> dict[str, float]:
    """Compute `map_by_action`, `map_by_video` and `f1` at the overlap that is usually reported, and the first two with
    a suffix (`map_by_action_0.1`) at the others. All in %."""
    metrics = mean_ap(detections, truth, REPORTED) | {"f1": frame_f1(detections, truth)}
    for overlap in OVERLAPS:
        if overlap != REPORTED:
            metrics |= {f"{name}_{overlap}": value for name, value in mean_ap(detections, truth, overlap).items()}
    return metrics


def mean_ap(detections: Detections, truth: Truth, overlap: float) -> dict[str, float]:
    """Compute mAP in %, by action and by video: the mean average precision of the classes, or of the recordings, that
    have a true segment; 0 if none has."""
    sizes = {"map_by_action": Counter[int](), "map_by_video": Counter[int]()}  # true segments of each class, recording
    hits = {name: defaultdict[int, list[Hit]](list) for name in sizes}
    for video, (candidates, segments) in enumerate(zip(detections, truth)):
        sizes["map_by_action"].update(segment.label for segment in segments)
        sizes["map_by_video"].update([video] * len(segments))
        for detection in candidates:
            target = _target(detection, segments, overlap)
            hit = detection.confidence, target and (video, target.start)
            hits["map_by_action"][detection.label].append(hit)
            hits["map_by_video"][video].append(hit)
    result = {}
    for name, counts in sizes.items():
        values = [average_precision(hits[name][key], size) for key, size in counts.items()]
        result[name] = 100.0 * float(np.mean(values)) if values else 0.0
    return result


def _target(detection: Detection, segments: Sequence[Segment], overlap: float) -> Segment | None:
    """Return the true segment that a detection finds, or None."""
    length, ratios = detection.end - detection.start, {}
    for segment, shared in _shared(detection, segments):
        ratios[segment] = shared / (length + segment.end - segment.start - shared)
    best = max(ratios, key=ratios.__getitem__, default=None)
    return best if best and ratios[best] >= overlap else None


def _shared(detection: Detection, segments: Sequence[Segment]) -> list[tuple[Segment, int]]:
    """Return the segments of a detection's class that share frames with it, and how many."""
    first = bisect_right(segments, detection.start, key=attrgetter("end"))
    last = bisect_left(segments, detection.end, key=attrgetter("start"))
    return [
        (segment, min(detection.end, segment.end) - max(detection.start, segment.start))
        for segment in segments[first:last]
        if segment.label == detection.label
    ]


def average_precision(hits: Sequence[Hit], positives: int) -> float:
    """Compute the average precision of detections, with `positives` to find."""
    confidence = np.array([c for c, _ in hits], float)
    order = np.argsort(-confidence, kind="stable")
    seen: set = set()
    is_right = np.zeros(len(order))
    for rank, i in enumerate(order):
        target = hits[i][1]
        is_right[rank] = target is not None and target not in seen
        seen.add(target)
    # The curve has its points at the last of each group of equal confidence.
    last = np.append(np.diff(confidence[order]) != 0, True)[: len(order)]
    count = np.cumsum(is_right)[last]
    precision = count / (np.flatnonzero(last) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(count, prepend=0) / positives) @ best)


def frame_f1(detections: Detections, truth: Truth) -> float:
    """Compute the F1 of frames in %: a frame is right if its class is found; background is no class. 0 if none is
    right."""
    right = marked = there = 0
    for candidates, segments in zip(detections, truth):
        marked += sum(d.end - d.start for d in candidates)
        there += sum(s.end - s.start for s in segments)
        right += sum(shared for d in candidates for _, shared in _shared(d, segments))
    return 100.0 * 2 * right / (marked + there) if right else 0.0

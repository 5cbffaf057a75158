"""The metrics against hand-made figures, and against a second way of computing them that shares no code with them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.packed.segments import Segment
from tools.detection.metrics import OVERLAPS, average_precision, frame_f1, mean_ap, measure_detection
from tools.detection.scoring import Detection


def segments_of(frames):
    """Segments from a list of classes a frame, −1 for none."""
    edges = [0, *(i for i in range(1, len(frames)) if frames[i] != frames[i - 1]), len(frames)]
    return [Segment(a, b, frames[a]) for a, b in zip(edges, edges[1:]) if a < b and frames[a] >= 0]


recording = st.tuples(
    st.lists(st.integers(-1, 2), max_size=14).map(segments_of),
    st.lists(
        st.builds(
            lambda start, length, label, c: Detection(start, start + length, label, c / 4),
            st.integers(0, 12), st.integers(1, 8), st.integers(0, 3), st.integers(0, 4),
        ),
        max_size=8,
    ),
)  # fmt: skip


def slow_ap(found, truth, overlap, belongs):
    """Average precision by definition, on sets of frames and in fractions: for each least confidence the segments that
    are found by some detection, and at each recall the best precision at that recall or above."""
    positives = {(v, i) for v, those in enumerate(truth) for i, s in enumerate(those) if belongs(v, s)}
    detections = [(v, d) for v, those in enumerate(found) for d in those if belongs(v, d)]

    def hit(v, d):
        ratios = {}
        for i, s in enumerate(truth[v]):
            a, b = set(range(d.start, d.end)), set(range(s.start, s.end))
            if s.label == d.label and a & b:
                ratios[i] = Fraction(len(a & b), len(a | b))
        best = max(ratios.values(), default=Fraction(0))
        chosen = min((i for i in ratios if ratios[i] == best), default=None)
        return (v, chosen) if chosen is not None and best >= Fraction(str(overlap)) else None

    points, hits = [], [(d.confidence, hit(v, d)) for v, d in detections]
    for least in {confidence for confidence, _ in hits}:
        kept = [target for confidence, target in hits if confidence >= least]
        right = {*kept} - {None}
        points.append((Fraction(len(right), len(positives)), Fraction(len(right), len(kept))))
    area, before = Fraction(0), Fraction(0)
    for recall in sorted({r for r, _ in points}):
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return float(area)


@settings(max_examples=300, deadline=None)
@given(st.lists(recording, min_size=1, max_size=4), st.sampled_from(OVERLAPS))
def test_mean_average_precision_is_that_of_the_definition(recordings, overlap):
    truth, detections = zip(*recordings)
    labels = {s.label for those in truth for s in those}
    videos = [v for v, those in enumerate(truth) if those]
    actions = [slow_ap(detections, truth, overlap, lambda v, s, k=k: s.label == k) for k in labels]
    of_videos = [slow_ap(detections, truth, overlap, lambda v, s, k=k: v == k) for k in videos]
    result = mean_ap(detections, truth, overlap)
    assert result["map_by_action"] == pytest.approx(100 * np.mean(actions) if actions else 0)
    assert result["map_by_video"] == pytest.approx(100 * np.mean(of_videos) if of_videos else 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(recording, recording), min_size=1, max_size=3))
def test_f1_is_that_of_the_frames(pairs):
    truth = [a[0] for a, _ in pairs]
    detections = [[Detection(*s, 0.5) for s in b[0]] for _, b in pairs]  # they do not overlap, as decoding has it
    right = marked = there = 0
    for pair in zip(truth, detections):
        real, seen = ({f: s.label for s in those for f in range(s.start, s.end)} for those in pair)
        marked, there = marked + len(seen), there + len(real)
        right += sum(real.get(f) == label for f, label in seen.items())
    precision, recall = right / max(marked, 1), right / max(there, 1)
    expected = 100 * 2 * precision * recall / (precision + recall) if right else 0
    assert frame_f1(detections, truth) == pytest.approx(expected)


def test_figures_worked_out_by_hand():
    truth = [[Segment(0, 10, 0), Segment(20, 30, 0)]]
    right, wrong, half = Detection(0, 10, 0, 0.9), Detection(50, 60, 0, 0.8), Detection(20, 25, 0, 0.7)
    # Precision 1 at recall 1/2, then 2/3 at recall 1.
    assert mean_ap([[right, wrong, half]], truth, 0.5)["map_by_action"] == pytest.approx(100 * (0.5 + 0.5 * 2 / 3))
    assert mean_ap([[right, wrong, half]], truth, 0.6)["map_by_action"] == pytest.approx(50)


def test_doubles_are_false_and_ties_have_no_order():
    truth = [[Segment(0, 10, 0), Segment(20, 30, 0)]]
    a, b, again = Detection(0, 10, 0, 0.5), Detection(20, 30, 0, 0.5), Detection(1, 10, 0, 0.5)
    assert mean_ap([[a, b]], truth, 0.5)["map_by_action"] == 100
    for order in ([a, b, again], [again, b, a], [a, again, b]):
        assert mean_ap([order], truth, 0.5)["map_by_action"] == pytest.approx(100 * 2 / 3)
    later = again._replace(confidence=0.1)
    assert mean_ap([[a, b, later]], truth, 0.5)["map_by_action"] == 100  # all were found before it


def test_empties():
    nothing, one = [[]], [[Segment(0, 5, 1)]]
    detections = [[Detection(0, 5, 1, 0.5)]]
    metrics = measure_detection(nothing, nothing)
    assert list(metrics)[:4] == ["map_by_action", "map_by_video", "f1", "map_by_action_0.1"] and len(metrics) == 3 + 12
    assert set(metrics.values()) == {0}
    assert mean_ap(nothing, one, 0.5) == {"map_by_action": 0, "map_by_video": 0}
    # A recording without segments counts for the classes, but it has no precision of its own.
    assert mean_ap([detections[0], detections[0]], [one[0], []], 0.5) == {"map_by_action": 50, "map_by_video": 100}
    # A class that is nowhere true does not count.
    assert mean_ap([[*detections[0], Detection(9, 12, 2, 0.9)]], one, 0.5) == {"map_by_action": 100, "map_by_video": 50}
    assert average_precision([], 3) == 0

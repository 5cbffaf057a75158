import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.detection.decoding import Detection, decode
from tools.detection.overlap import frame_scores, triangle


def scores_of(labels, score=0.8, classes=3):
    """Scores of frames that have these labels, −1 for none."""
    result = np.full((len(labels), classes), 0.05)
    for frame, label in enumerate(labels):
        if label >= 0:
            result[frame, label] = score
    return result


def spans(labels, shortest=3, threshold=0.5):
    return [(d.start, d.end, d.label) for d in decode([scores_of(labels)], threshold, shortest)]


def test_runs_of_a_label_are_segments():
    assert spans([-1] * 4 + [0] * 5 + [-1] * 6 + [1] * 4) == [(4, 9, 0), (15, 19, 1)]
    assert spans([0] * 5 + [1] * 5) == [(0, 5, 0), (5, 10, 1)]
    assert spans([-1] * 9) == [] == spans([0, 0] + [-1] * 5)  # shorter than the shortest


def test_short_interruptions_do_not_end_a_segment():
    assert spans([0] * 4 + [-1] * 3 + [0] * 4) == [(0, 11, 0)]
    assert spans([0] * 4 + [1] * 2 + [0] * 4) == [(0, 10, 0)]
    assert spans([0] * 4 + [-1] * 4 + [0] * 4) == [(0, 4, 0), (8, 12, 0)]
    assert spans([0] * 4 + [1] * 3 + [0] * 4) == [(0, 4, 0), (4, 7, 1), (7, 11, 0)]


def test_the_confidence_is_the_mean_score_of_its_frames():
    scores = np.concatenate((scores_of([0] * 4, 0.6), scores_of([-1]), scores_of([0] * 4, 0.9)))
    (found,) = decode([scores], 0.5, 3)
    assert found == Detection(0, 9, 0, pytest.approx(0.75))
    assert list(decode([scores], 0.95, 3)) == []


@settings(deadline=None)
@given(st.lists(st.integers(-1, 2), max_size=40), st.lists(st.integers(1, 40), max_size=5), st.integers(1, 5))
def test_blocks_do_not_matter_and_segments_do_not_overlap(labels, cuts, shortest):
    scores = scores_of(labels)
    blocks = np.split(scores, sorted(cut for cut in set(cuts) if cut < len(labels)))
    found = list(decode([b for b in blocks if len(b)], 0.5, shortest))
    assert [d[:3] for d in found] == [d[:3] for d in decode([scores] if labels else [], 0.5, shortest)]
    for a, b in zip(found, found[1:]):
        assert a.end <= b.start
    for d in found:
        assert d.end - d.start >= shortest and labels[d.start] == d.label == labels[d.end - 1]


def test_a_segment_is_told_soon_after_its_end():
    told = []

    def blocks():
        for frame in range(40):
            told.append(len(found))
            yield scores_of([0] if frame < 10 else [-1])

    found = []
    for segment in decode(blocks(), 0.5, 3):
        found.append(segment)
    assert told.index(1) <= 15 and len(found) == 1


def test_overlapping_windows_are_averaged_with_most_weight_in_their_middle():
    windows = [(0, np.full((4, 1), 1.0)), (2, np.full((4, 1), 2.0)), (5, np.full((4, 1), 4.0))]
    found = np.concatenate(list(frame_scores(windows)))[:, 0]
    assert triangle(4).tolist() == [1, 2, 2, 1]
    expected = [1, 1, (2 * 1 + 1 * 2) / 3, (1 * 1 + 2 * 2) / 3, 2, (1 * 2 + 1 * 4) / 2, 4, 4, 4]
    assert found == pytest.approx(expected)
    assert [len(block) for block in frame_scores(windows)] == [2, 3, 4]  # as soon as they are certain
    assert list(frame_scores([])) == []


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 12), st.integers(1, 12))
def test_every_frame_has_a_score(frames, length, stride):
    from feeder.windows import slide

    stride = min(stride, length)
    recording = np.random.default_rng(0).random((frames, 2))
    found = np.concatenate(list(frame_scores(slide([recording], length, stride))))
    assert np.allclose(found, recording)  # windows agree, so their mean is what they say

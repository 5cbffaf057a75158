import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_gen.skeletons import NTU_LAYOUT
from tools.detection.scoring import Detection, Scorer, decode


def scores_of(labels, score=0.8, classes=3):
    """Scores of frames that have these labels, −1 for none."""
    result = np.full((len(labels), classes), 0.05)
    for frame, label in enumerate(labels):
        if label >= 0:
            result[frame, label] = score
    return result


def spans(labels, shortest=3, threshold=0.5):
    return [d[:3] for d in decode(scores_of(labels), threshold, shortest)]


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
    assert decode(scores, 0.5, 3) == [Detection(0, 9, 0, pytest.approx(0.75))]
    assert decode(scores, 0.95, 3) == []


def slow_decode(labels, shortest):
    """By the definition, frame by frame: of all that could be segments, take the one with most frames of its label,
    then look again at the frames that are left."""
    free, taken, result = dict(enumerate(labels)), set(), []

    def gap_is_closed(frames, k):
        is_filled = (
            len(frames) == shortest and len({labels[f] for f in frames}) == 1 and labels[frames[0]] not in (-1, k)
        )
        return len(frames) <= shortest and not is_filled and not taken & {*frames}

    while True:
        candidates = []
        for k in {*labels} - {-1}:
            frames = [f for f in sorted(free) if labels[f] == k]
            cuts = [i for i in range(1, len(frames)) if not gap_is_closed(range(frames[i - 1] + 1, frames[i]), k)]
            for a, b in zip([0, *cuts], [*cuts, len(frames)]):
                if b > a and frames[b - 1] + 1 - frames[a] >= shortest:
                    candidates.append((a - b, frames[a], frames[b - 1] + 1, k))
        if not candidates:
            return sorted(result)
        _, start, end, k = min(candidates)
        result.append((start, end, k))
        taken |= {*range(start, end)}
        for frame in range(start, end):
            free.pop(frame, None)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.integers(-1, 2), min_size=1, max_size=40), st.integers(1, 6))
@example([0, 1, 1, -1, 1, 1, 0], 5)
def test_segments_are_those_of_the_definition(labels, shortest):
    assert spans(labels, shortest) == slow_decode(labels, shortest)


def test_overlapping_windows_are_averaged_with_most_weight_in_their_middle():
    values = torch.tensor([1.0, 2.0, 4.0])
    scorer = Scorer(lambda clips: values[:, None, None], ["a"], NTU_LAYOUT, torch.device("cpu"))
    bodies = np.random.default_rng(0).normal(size=(9, 1, 25, 3))
    expected = [1, 1, 1, (1 + 2) / 2, 2, (2 * 2 + 1 * 4) / 3, (1 * 2 + 2 * 4) / 3, 4, 4]  # windows start at 0, 3, 5
    assert scorer.frame_scores(bodies, 4, 3)[:, 0] == pytest.approx(expected)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 50), st.integers(1, 12), st.integers(1, 12))
def test_every_frame_has_a_score(frames, length, stride):
    scorer = Scorer(lambda clips: torch.full((len(clips), 64, 2), 0.3), ["a", "b"], NTU_LAYOUT, torch.device("cpu"))
    bodies = np.random.default_rng(0).normal(size=(frames, 1, 25, 3))
    np.testing.assert_allclose(scorer.frame_scores(bodies, length, min(stride, length)), np.full((frames, 2), 0.3))

import numpy as np
import pytest
from feeder.layout import NTU_LAYOUT, FrameLayout
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.raw.normalise import normalise
from feeder.windows import GAP, long_gaps, normalise_window, slide


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.lists(st.integers(1, 60), max_size=6))
def test_windows_are_the_same_however_a_recording_comes_in(frames, length, stride, cuts):
    stride = min(stride, length)
    recording = np.arange(frames)[:, None]
    blocks = np.split(recording, sorted(cut for cut in set(cuts) if cut < frames))
    found = list(slide(blocks, length, stride))
    starts = [start for start, _ in found]
    for start, window in found:
        assert np.array_equal(window, recording[start : start + length])
    if frames <= length:
        assert starts == [0]
    else:
        regular = list(range(0, frames - length + 1, stride))
        assert starts == regular + [frames - length] * (regular[-1] != frames - length)


def test_a_recording_without_frames_has_no_windows():
    assert list(slide([], 5, 2)) == [] == list(slide([np.zeros((0, 3))], 5, 2))


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_window_is_prepared_as_a_clip_of_its_frames_is(slots):
    rng = np.random.default_rng(slots)
    bodies = (rng.normal(size=(200, slots, 25, 3)) + [0, 0, 3]).astype(np.float32)
    bodies[:20, 0] = 0  # the first one comes late
    bodies[40:43] = 0
    for start in (0, 30, 120):
        part = bodies[start : start + 60]
        window = normalise_window(start, part, NTU_LAYOUT)
        assert window.clip.shape == (60, 2, 25, 3) and window.present.all() or start == 0
        assert np.array_equal(window.clip, normalise(part.astype(np.float64)))
        # Nothing outside the window counts.
        other = bodies.copy()
        other[start + 60 :] = rng.normal(size=other[start + 60 :].shape)
        assert np.array_equal(window.clip, normalise_window(start, other[start : start + 60], NTU_LAYOUT).clip)


def test_a_gap_without_bodies_is_marked_where_it_is_long():
    frames = np.ones((100, 2, 25, 3))
    frames[10 : 10 + GAP - 1] = 0
    frames[50 : 50 + GAP] = 0
    present = normalise_window(0, frames, FrameLayout()).present
    assert np.flatnonzero(~present).tolist() == list(range(50, 50 + GAP))
    assert long_gaps(np.zeros(4, bool), GAP).all()  # nobody in a recording of four frames

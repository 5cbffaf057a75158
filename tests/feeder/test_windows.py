import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.raw.normalise import normalise
from data_gen.skeletons import NTU_LAYOUT
from feeder.windows import GAP, normalise_window, starts


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_windows_start_at_every_stride_and_the_last_ends_with_the_recording(frames, length, stride):
    if frames <= length:
        assert starts(frames, length, stride) == [0]
    else:
        regular = [start for start in range(frames) if start % stride == 0 and start + length <= frames]
        assert starts(frames, length, stride) == regular + [frames - length] * (regular[-1] != frames - length)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_window_is_prepared_as_a_clip_of_its_frames_is(slots):
    rng = np.random.default_rng(slots)
    bodies = (rng.normal(size=(200, slots, 25, 3)) + [0, 0, 3]).astype(np.float32)
    bodies[:20, 0] = 0  # the first one comes late
    bodies[40:43] = 0
    for start in (0, 30, 120):
        part = bodies[start : start + 60]
        clip, present = normalise_window(part, NTU_LAYOUT)
        assert clip.shape == (60, 2, 25, 3) and present.all() or start == 0
        assert np.array_equal(clip, normalise(part.astype(np.float64)))


def test_a_gap_without_bodies_is_marked_where_it_is_long():
    frames = np.ones((100, 2, 25, 3))
    frames[10 : 10 + GAP - 1] = 0
    frames[50 : 50 + GAP] = 0
    _, present = normalise_window(frames, NTU_LAYOUT)
    assert np.flatnonzero(~present).tolist() == list(range(50, 50 + GAP))
    assert not normalise_window(np.zeros((4, 2, 25, 3)), NTU_LAYOUT)[1].any()  # nobody in a recording of four frames

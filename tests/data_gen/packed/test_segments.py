import math

import numpy as np
import pytest

from data_gen.packed.reader import PackedDataset
from data_gen.packed.segments import Segment, find_fault, from_array, to_array
from data_gen.packed.writer import packing
from utils.errors import UserError

SEGMENTS = [[Segment(2, 5, 1), Segment(5, 9, 0)], [], [Segment(0, 4, 1)]]


def write(folder, segments=SEGMENTS):
    rng = np.random.default_rng(0)
    with packing(folder) as writer:
        for name, those in zip("abc", segments):
            writer.add_long(name, rng.normal(size=(10, 2, 25, 3)), those)
        splits = {"xsub": {"train": [0], "val": [1, 2]}}
        writer.finish(splits, {"dataset": "mine", "title": "mine", "classes": 2})
    return folder


def test_segments_come_back_as_they_were_written(tmp_path):
    packed = PackedDataset(write(tmp_path / "mine"))
    assert packed.segments == SEGMENTS and packed.info["segments"] == 3
    assert packed.label.tolist() == [-1, -1, -1] and packed.num_frame.tolist() == [10, 10, 10]
    rows = np.load(packed.path / "segments.npy")
    assert rows.dtype == np.int64 and rows.tolist() == [[0, 2, 5, 1], [0, 5, 9, 0], [2, 0, 4, 1]]


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 2, 5, 1], [0, 4, 9, 0], [2, 0, 4, 1]],
        [[0, 2, 2, 1], [0, 6, 9, 0], [2, 0, 4, 1]],
        [[0, 2, 5, 1], [0, 5, 11, 0], [2, 0, 4, 1]],
        [[0, -1, 5, 1], [0, 5, 9, 0], [2, 0, 4, 1]],
        [[0, 2, 5, 2], [0, 5, 9, 0], [2, 0, 4, 1]],
        [[0, 2, 5, 1], [0, 5, 9, 0], [3, 0, 4, 1]],
        [[2, 0, 4, 1], [0, 5, 9, 0], [0, 2, 5, 1]],
        [[0, 2, 5, 1], [0, 5, 9, 0]],
    ],
    ids=["overlap", "empty", "too late", "too early", "class", "recording", "order", "number"],
)
def test_damaged_segments_are_refused(tmp_path, rows):
    folder = write(tmp_path / "mine")
    np.save(folder / "segments.npy", np.array(rows, np.int64))
    with pytest.raises(UserError, match="segments.npy"):
        PackedDataset(folder)


def test_of_two_that_overlap_the_later_one_is_at_fault():
    segments = [Segment(10, 20, 0), Segment(30, 40, 0), Segment(5, 11, 0)]
    assert find_fault(segments[:2], 40, 1) is None
    assert find_fault(segments, 40, 1)[0] == 2
    assert from_array(to_array([segments[:2]]), np.array([40]), 1) == [segments[:2]]


def test_a_segment_before_the_first_frame_is_refused_whatever_the_recordings_length():
    fault = find_fault([Segment(0, 4, 0), Segment(-5, -1, 0)], math.inf, 1)
    assert fault[0] == 1 and "-5 to -1: " in fault[1] and "inf" not in fault[1]
    assert find_fault([Segment(3, 41, 0)], 40, 1)[1].endswith("40")

import json

import numpy as np
import pytest

from data_gen.packed.reader import INFO, PackedDataset
from data_gen.packed.segments import Segment, find_fault, from_array, to_array
from data_gen.packed.writer import packing
from utils.errors import UserError

SEGMENTS = [[Segment(2, 5, 1), Segment(5, 9, 0)], [], [Segment(0, 4, 1)]]


def write(folder, segments=SEGMENTS):
    rng = np.random.default_rng(0)
    with packing(folder) as writer:
        for name, those in zip("abc", segments):
            writer.add_long(name, [rng.normal(size=(5, 2, 25, 3)), rng.normal(size=(5, 2, 25, 3))], those)
        splits = {"xsub": {"train": [0], "val": [1, 2]}}
        writer.finish(splits, {"dataset": "mine", "title": "mine", "classes": 2, **writer.counts(splits)})
    return folder


def test_segments_come_back_as_they_were_written(tmp_path):
    packed = PackedDataset(write(tmp_path / "mine"))
    assert packed.segments == SEGMENTS and packed.info["segments"] == 3
    assert packed.label.tolist() == [-1, -1, -1] and packed.num_frame.tolist() == [10, 10, 10]
    rows = np.load(packed.path / "segments.npy")
    assert rows.dtype == np.int64 and rows.tolist() == [[0, 2, 5, 1], [0, 5, 9, 0], [2, 0, 4, 1]]


def test_a_data_set_of_clips_has_none(demo_root):
    packed = PackedDataset(demo_root / "demo")
    assert packed.segments is None and not (packed.path / "segments.npy").exists()


@pytest.mark.parametrize(
    "rows, message",
    [
        ([[0, 2, 5, 1], [0, 4, 9, 0], [2, 0, 4, 1]], "recording 0: frames 2 to 5 and 4 to 9 overlap"),
        ([[0, 2, 5, 1], [0, 2, 5, 1], [2, 0, 4, 1]], "overlap"),
        ([[0, 5, 2, 1], [0, 6, 9, 0], [2, 0, 4, 1]], "ends at 2, before it begins at 5"),
        ([[0, 2, 2, 1], [0, 6, 9, 0], [2, 0, 4, 1]], "is empty"),
        ([[0, 2, 5, 1], [0, 5, 11, 0], [2, 0, 4, 1]], "lie outside the recording's 10"),
        ([[0, -1, 5, 1], [0, 5, 9, 0], [2, 0, 4, 1]], "lie outside the recording's 10"),
        ([[0, 2, 5, 2], [0, 5, 9, 0], [2, 0, 4, 1]], "class 2 lies outside 0..1"),
        ([[0, 2, 5, 1], [0, 5, 9, 0], [3, 0, 4, 1]], "lies outside the 3 recordings"),
        ([[2, 0, 4, 1], [0, 5, 9, 0], [0, 2, 5, 1]], "do not ascend"),
        ([[0, 2, 5, 1], [0, 5, 9, 0]], "expected int64 .3, 4"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path, rows, message):
    folder = write(tmp_path / "mine")
    np.save(folder / "segments.npy", np.array(rows, np.int64))
    with pytest.raises(UserError, match=message):
        PackedDataset(folder)


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", None, 10**9])
def test_a_wrong_declaration_is_refused(tmp_path, value):
    folder = write(tmp_path / "mine")
    info = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps(info | {"segments": value}))
    with pytest.raises(UserError, match="segments is not a whole number"):
        PackedDataset(folder)


def test_labels_beside_segments_are_refused(tmp_path):
    folder = write(tmp_path / "mine")
    np.save(folder / "label.npy", np.zeros(3, np.int64))
    with pytest.raises(UserError, match="a long recording has a label"):
        PackedDataset(folder)


def test_of_two_that_overlap_the_later_one_is_at_fault():
    segments = [Segment(10, 20, 0), Segment(30, 40, 0), Segment(5, 11, 0)]
    assert find_fault(segments[:2], 40, 1) is None
    assert find_fault(segments, 40, 1)[0] == 2
    assert from_array(to_array([segments[:2]]), np.array([40]), 1) == [segments[:2]]

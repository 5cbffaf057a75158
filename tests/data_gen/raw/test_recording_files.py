"""Recordings of every kind of file are the same bodies, and are made to fit an encoder."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from data_gen.raw.normalise import ADDED, DROPPED, MAPPED, NORMALISED, fit_people, normalise
from data_gen.raw.recording_files import check_values, fill_gaps, parse_recording
from data_gen.raw.recordings import find_recordings
from data_gen.skeletons import KINECT_V2, SKELETONS, map_joints
from utils.errors import UserError

V1 = SKELETONS["kinect_v1"]


def bodies(people=1, joints=20, frames=7, coordinates=3):
    return np.random.default_rng(people).normal(2, 0.4, (frames, people, joints, coordinates))


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def csv(array):
    return "\n".join(",".join(map(repr, row)) for row in array.reshape(len(array), -1).tolist()).encode()


@pytest.mark.parametrize("people", [1, 2])
def test_tables_and_arrays_hold_the_same(people):
    clip = bodies(people)
    for content, suffix in ((npy(clip), ".npy"), (npy(np.asfortranarray(clip)), ".npy"), (csv(clip), ".csv")):
        np.testing.assert_array_equal(parse_recording(content, suffix, V1), clip)
    if people == 1:
        np.testing.assert_array_equal(parse_recording(npy(clip[:, 0]), ".npy", V1), clip)


@pytest.mark.parametrize(
    "content, suffix, message",
    [
        (b"", ".csv", "has 1 column, 20 joints of kinect_v1 take 2 or 3 each"),
        (b"", ".npy", "cannot be read"),
        (csv(bodies(joints=25)), ".csv", "has 75 columns, .* pass --skeleton .it may be kinect_v2."),
        (npy(bodies(joints=17)), ".npy", "has 17 joints, kinect_v1 20: pass --skeleton .it may be coco."),
        (npy(bodies(joints=3)), ".npy", "has 3 joints, kinect_v1 20: pass --skeleton .a JSON file"),
        (npy(np.array([{}]), allow_pickle=True), ".npy", "cannot be read .an array of object"),
        (npy(bodies())[:-1], ".npy", "cannot be read .its header tells of 3360 bytes of float64, it has 3359"),
        (csv(bodies()) + b"\n1,2", ".csv", "line 8: has 2 values, the first line 60"),
    ],
)
def test_what_is_wrong_is_named(content, suffix, message):
    with pytest.raises(UserError, match=message):
        parse_recording(content, suffix, V1)


def test_an_array_that_claims_more_than_it_holds_takes_no_memory():
    claim = npy(np.zeros((1, 20, 3))).replace(b"(1, 20, 3)", b"(10**9,20)")
    tracemalloc.start()
    with pytest.raises(UserError):
        parse_recording(claim, ".npy", V1)
    with pytest.raises(UserError, match="tells of"):
        parse_recording(npy(np.zeros((1, 20, 3))).replace(b"(1, 20, 3), ", b"(9999999,), "), ".npy", V1)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_they_are_found_beside_each_other_but_for_tables(tmp_path):
    for name in ("a.csv", "b.NPY", "c.skeleton", "recordings.csv", "segments.csv", ".d.npy", "e.txt"):
        (tmp_path / name).write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("inside/f.npy", b"")
        archive.writestr("inside/recordings.csv", b"")
    every = find_recordings([tmp_path], (".csv", ".npy", ".skeleton"))[0]
    assert [(r.stem, r.suffix) for r in every] == [("a", ".csv"), ("b", ".npy"), ("c", ".skeleton"), ("f", ".npy")]
    assert [r.stem for r in find_recordings([tmp_path])[0]] == ["c"]


def test_a_recording_is_mapped_normalised_and_padded():
    clip = bodies()
    people, done = fit_people(clip, V1, KINECT_V2, (2, 3))
    assert people.dtype == np.float32 and done == {MAPPED, NORMALISED, ADDED} and not people[:, 1].any()
    np.testing.assert_array_equal(people, normalise(map_joints(clip, V1, KINECT_V2), KINECT_V2, 2))


def test_people_beyond_the_number_are_left_out_by_their_energy():
    crowd = bodies(4, 25)
    crowd[:, 2] *= 3  # moves most
    people, done = fit_people(crowd, KINECT_V2, KINECT_V2, (1, 3))
    assert done == {DROPPED, NORMALISED}
    np.testing.assert_array_equal(people, normalise(crowd[:, 2:3], num_people=1))
    crowd[:, 1:] = 0  # nobody is left out where nobody is
    assert fit_people(crowd, KINECT_V2, KINECT_V2, (1, 3))[1] == {NORMALISED}


def test_what_is_centred_stays_bit_for_bit():
    ready = normalise(bodies(2, 25))
    people, done = fit_people(ready, KINECT_V2, KINECT_V2, (2, 3))
    np.testing.assert_array_equal(people, ready)
    assert done == set()
    np.testing.assert_array_equal(fit_people(ready, KINECT_V2, KINECT_V2, (1, 3))[0], ready[:, :1])
    raw = bodies(2, 25)
    stored, done = fit_people(raw, KINECT_V2, KINECT_V2, (3, 3), centred=False)
    assert done == {ADDED}
    np.testing.assert_array_equal(stored[:, :2], raw.astype(np.float32))


def test_what_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="holds kinect_v1 in 2 coordinates, the encoder takes kinect_v2 in 3"):
        fit_people(bodies(coordinates=2), V1, KINECT_V2, (2, 3))
    with pytest.raises(ValueError, match="no joint mapping from kinect_v2 to kinect_v1"):
        fit_people(bodies(joints=25), KINECT_V2, V1, (2, 3))


def test_values_are_checked_by_frame():
    clip = bodies()
    clip[3, 0, 5, 1] = clip[5] = np.nan
    with pytest.raises(UserError, match="not finite in 2 of its 7 frames, the first of them frame 3 .counted from 0"):
        check_values(clip)
    with pytest.raises(UserError, match="has 0 frames"):
        check_values(clip[:0])


def test_gaps_are_filled_as_numpy_interpolates():
    clip = bodies(2, frames=12)
    broken = clip.copy()
    broken[0, 0, 3] = np.nan
    broken[4:7, 1] = np.inf
    broken[6:8, 0, 0, 2] = np.nan
    broken[11] = np.nan
    filled, gaps = fill_gaps(broken)
    assert gaps == [(0, 1), (4, 8), (11, 12)]
    for index in np.ndindex(clip.shape[1:]):
        values = broken[(slice(None), *index)]
        good = np.flatnonzero(np.isfinite(values))
        np.testing.assert_allclose(filled[(slice(None), *index)], np.interp(np.arange(12), good, values[good]))
    assert fill_gaps(clip)[1] == []

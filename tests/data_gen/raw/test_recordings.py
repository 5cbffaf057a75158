"""Recordings are found in folders, archives and files, and read, whatever their kind, to the same bodies."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_gen.raw.normalise import ADDED, MAPPED, check_values, normalise
from data_gen.raw.recording_files import fill_gaps, shape_of
from data_gen.raw.recordings import find_inputs, find_recordings, prepare_all, read_one
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import KINECT_V2, NTU_LAYOUT, SKELETONS, FrameLayout, map_joints
from tests.helpers import moving_body, skeleton_text
from tests.long_helpers import CLASSES, write_long
from utils.errors import UserError

NAME = "S001C001P001R001A001"
TEXT = skeleton_text(moving_body(np.random.default_rng(0), 3))
V1 = SKELETONS["kinect_v1"]


def archive_of(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def bodies(people=1, joints=20, frames=7, coordinates=3):
    return np.random.default_rng(people).normal(2, 0.4, (frames, people, joints, coordinates))


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def csv(array):
    return "\n".join(",".join(map(repr, row)) for row in array.reshape(len(array), -1).tolist()).encode()


# ---- find ------------------------------------------------------------------------------------------------------------


def test_they_are_found_beside_each_other_but_for_tables(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.csv", "b.NPY", "c.skeleton", "sub/recordings.csv", "sub/segments.csv", ".d.npy", "e.txt"):
        (tmp_path / name).write_bytes(b"")
    archive_of(tmp_path / "more.zip", {"inside/f.npy": b"", "inside/recordings.csv": b""})
    every = find_inputs([tmp_path]).recordings
    assert [(r.name, r.suffix) for r in every] == [("a", ".csv"), ("b", ".npy"), ("c", ".skeleton"), ("f", ".npy")]
    assert [r.name for r in find_recordings([tmp_path])[0]] == ["c"]
    assert [str(r) for r in every[2:]] == [f"{tmp_path}/c.skeleton", f"{tmp_path}/more.zip:inside/f.npy"]


def test_a_recording_found_twice_is_taken_once_unless_the_two_differ(tmp_path):
    (tmp_path / "inner").mkdir()
    for folder in (tmp_path, tmp_path / "inner"):
        (folder / f"{NAME}.skeleton").write_bytes(TEXT)
    archive = archive_of(tmp_path / "inner" / "more.zip", {f"a/{NAME}.skeleton": TEXT})
    recordings, repeated = find_recordings([tmp_path, archive])
    assert [str(r) for r in recordings] == [f"{tmp_path}/{NAME}.skeleton"] and repeated == 2
    (tmp_path / "inner" / f"{NAME}.skeleton").write_bytes(TEXT.replace(b"1", b"2"))
    with pytest.raises(UserError, match=f"{tmp_path}/inner/{NAME}.skeleton"):
        find_recordings([tmp_path])


def test_places_and_archives_that_cannot_be_read_are_refused_by_name(tmp_path):
    path = archive_of(tmp_path / "official.zip", {f"{NAME}.skeleton": TEXT})
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"xxxx"))
    (tmp_path / "note.txt").write_text("no archive")
    for place in (path, tmp_path / "note.txt", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=str(place)):
            find_recordings([place])


# ---- read ------------------------------------------------------------------------------------------------------------


def test_the_shape_of_a_recording_is_told_by_its_start(tmp_path):
    for name, content, shape in (
        ("a.npy", npy(bodies(2)), (2, 20, 3)),
        ("b.csv", csv(bodies(2)), (2, 20, 3)),
        ("c.csv", csv(bodies(coordinates=2)), (1, 20, 2)),
    ):
        (tmp_path / name).write_bytes(content)
        assert shape_of(tmp_path / name, V1) == shape
    (tmp_path / "d.skeleton").write_bytes(TEXT)
    assert shape_of(tmp_path / "d.skeleton", KINECT_V2) == (4, 25, 3)
    with pytest.raises(UserError, match="d.skeleton: .*kinect_v2"):
        shape_of(tmp_path / "d.skeleton", V1)


def test_values_are_checked_by_frame():
    clip = bodies()
    clip[3, 0, 5, 1] = clip[5] = np.nan
    with pytest.raises(UserError, match="2 of 7 frames.* frame 3 "):
        check_values(clip)
    for wrong in (clip[:0], np.full((1, 1, 20, 3), 1e7)):
        with pytest.raises(UserError):
            check_values(wrong)


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


def test_many_are_prepared_for_an_encoder_or_refused_one_by_one(tmp_path):
    clip = bodies()
    (tmp_path / "a.csv").write_bytes(csv(clip))
    (tmp_path / "b.csv").write_bytes(csv(clip)[:-1] + b"x")
    (tmp_path / "c.skeleton").write_bytes(TEXT)
    recordings = find_inputs([tmp_path], "kinect_v1").recordings
    (people, adaptations), error, (ntu, ntu_adaptations) = prepare_all(recordings, 1, NTU_LAYOUT, True)
    np.testing.assert_array_equal(people, normalise(map_joints(clip, V1, KINECT_V2)))
    assert MAPPED in adaptations and ADDED in adaptations and ntu_adaptations == set()
    assert isinstance(error, UserError) and str(error).startswith("line 7: ")
    np.testing.assert_array_equal(ntu, normalise(parse_skeleton(TEXT)))


# ---- what a user gives a program -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    """Recordings of Kinect v1 with a table of two classes, and one that it does not list."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        np.save(folder / f"{name}.npy", bodies(frames=10 + ord(name)))
    (folder / "recordings.csv").write_text("name,label\nb,walk\na,sit\n")
    return folder


def test_a_folders_table_chooses_and_labels_its_recordings(folder):
    inputs = find_inputs([folder], "kinect_v1")
    assert [(i.name, i.label, i.truth) for i in inputs.recordings] == [("a", 0, None), ("b", 1, None)]
    assert all(i.skeleton == V1 for i in inputs.recordings)
    assert inputs.class_names == ["sit", "walk"] and inputs.notes == []
    np.testing.assert_array_equal(inputs.recordings[0].bodies(), bodies(frames=107))
    (folder / "recordings.csv").write_text("name,label\nb,2\na,1\n")
    inputs = find_inputs([folder], "kinect_v1")
    assert [i.label for i in inputs.recordings] == [1, 2] and not inputs.class_names and len(inputs.notes) == 1
    for labels in ((-1, 0), (0, 5)):
        (folder / "classes.txt").write_text("sit\nwalk\n")
        (folder / "recordings.csv").write_text("name,label\nb,{}\na,{}\n".format(*labels))
        with pytest.raises(UserError, match=str(folder / "recordings.csv")):
            find_inputs([folder], "kinect_v1")


def test_without_a_table_names_of_ntus_form_have_labels(folder, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / f"{NAME[:-1]}9.skeleton").write_bytes(TEXT)
    archive = archive_of(tmp_path / "x.zip", {"c.npy": npy(bodies(frames=109)), "recordings.csv": b"name\n"})
    inputs = find_inputs([tmp_path / "raw", archive, folder / "c.npy"], "kinect_v1")
    assert [(i.name, i.label) for i in inputs.recordings] == [(f"{NAME[:-1]}9", 8), ("c", -1)]
    assert [i.skeleton for i in inputs.recordings] == [KINECT_V2, V1]
    assert len(inputs.notes) == 2 and str(archive) in inputs.notes[0]  # its table is not read; c is there twice
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=str(tmp_path / "empty")):
        find_inputs([tmp_path / "empty"])


def test_long_recordings_have_their_true_segments(tmp_path):
    folder = write_long(tmp_path / "long", count=2)
    (folder / "timelines").mkdir()
    (folder / "timelines" / "rec0.csv").write_text("start,end\n")
    (folder / "recordings.csv").unlink()
    inputs = find_inputs([folder], subfolders=False)
    assert [i.name for i in inputs.recordings] == ["rec0", "rec1"] and inputs.class_names == []
    assert inputs.recordings[1].truth[0] == (60, 130, CLASSES[1]) and len(inputs.recordings[0].truth) == 4
    assert find_inputs([folder / "rec0.skeleton"]).recordings == inputs.recordings[:1]
    with open(folder / "segments.csv", "a") as file:
        file.write("rec0,100,200,sit\n")
    with pytest.raises(UserError, match=r"segments.csv:10: "):
        _ = inputs.recordings[0].truth


def test_one_recording_is_read_by_its_name(folder):
    name, people, layout = read_one(folder, "b", "kinect_v1")
    assert name == "b" and layout == FrameLayout(V1, 1)
    np.testing.assert_array_equal(people, normalise(bodies(frames=108), V1, 1))
    assert read_one(folder / "c.npy", None, "kinect_v1")[0] == "c"
    for wrong in (None, "d"):
        with pytest.raises(UserError, match="--name"):
            read_one(folder, wrong, "kinect_v1")

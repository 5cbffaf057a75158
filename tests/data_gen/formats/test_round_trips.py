"""A packed data set that is exported and imported again is the same, bit for bit, through every format."""

import pickle

import numpy as np
import pytest

from data_gen import export_dataset
from data_gen.packed.reader import PackedDataset
from data_gen.packed.writer import packing
from tests.data_gen.formats.samples import KINDS, assert_same, bring, export, flags, make_packed, refused

FORMATS = {  # the format, flags to export, flags to import
    "padded": (["padded", "--frames", "12"], ["--protocol", "xsub"]),
    "npz": (["npz", "--frames", "12"], ["--protocol", "xsub"]),
    "pyskl": (["pyskl"], []),
    "npy": (["folder"], []),
    "csv": (["folder", "--as", "csv"], []),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_round_trip_changes_no_bit(form, kind, tmp_path):
    packed = make_packed(tmp_path / "packed", kind)
    (name, *there), back = FORMATS[form]
    export(name, *there, "--data", packed.path, "--out", tmp_path / "file.npz")
    own = ["--classes", "12"] if KINDS[kind][0] != "demo" and form != "npz" else []
    bring(name, tmp_path / "file.npz", *flags(kind), *back, *own, "--out", tmp_path / "out")
    assert_same(packed, tmp_path / "out")


def test_a_folder_keeps_classes_subjects_and_cameras_and_pyskl_more_than_two_people(tmp_path):
    names, rng = ["a", "b-1", "c_2"], np.random.default_rng(0)
    with packing(tmp_path / "packed", (3, 25, 3)) as writer:
        for label, name in enumerate(names):
            clip = rng.normal(size=(4, 3, 25, 3)).astype(np.float32)
            clip[:, 0, 1] = 0
            writer.add(name, label, clip)
        info = {"dataset": "own", "title": "own", "classes": 3, "class_names": ["walk", "sit, down", "é"]}
        writer.finish({}, info, {"subject": ["x", "y", "x"], "camera": ["1", "01", "3"]})
    packed = PackedDataset(tmp_path / "packed")
    export("folder", "--data", packed.path, "--out", tmp_path / "folder")
    bring("folder", tmp_path / "folder", "--name", "own", "--out", tmp_path / "out")
    assert packed.table("camera") == ["1", "01", "3"]
    assert PackedDataset(tmp_path / "out").class_names == packed.class_names == ["walk", "sit, down", "é"]
    for table in ("subject", "camera"):
        assert PackedDataset(tmp_path / "out").table(table) == packed.table(table)
    export("pyskl", "--data", packed.path, "--out", tmp_path / "own.pkl")
    bring("pyskl", tmp_path / "own.pkl", "--name", "own", "--out", tmp_path / "again")
    for out in ("out", "again"):
        assert (tmp_path / out / "joints.npy").read_bytes() == (packed.path / "joints.npy").read_bytes()


@pytest.mark.parametrize("form", ["padded", "npz", "pyskl", "csv"])
def test_pku_mmd_whose_names_tell_nothing_keeps_its_splits_and_labels(form, tmp_path):
    rng = np.random.default_rng(0)
    with packing(tmp_path / "packed") as writer:
        for i in range(6):
            clip = rng.normal(0, 0.4, (4 + i, 2, 25, 3)).astype(np.float32)
            clip[:, 0, 1] = 0
            writer.add(f"0002-L_{i:03}", 50 - i, clip)
        splits = {"xsub": {"train": [0, 3, 4], "val": [1, 2, 5]}}
        info = {"dataset": "pku1", "title": "PKU-MMD I", "classes": 51, "made": {}}
        writer.finish(splits, info)
    packed, ((name, *there), back) = PackedDataset(tmp_path / "packed"), FORMATS[form]
    export(name, *there, "--data", packed.path, "--out", tmp_path / "file")
    bring(name, tmp_path / "file", "--dataset", "pku1", *back, "--out", tmp_path / "out")
    assert_same(packed, tmp_path / "out")


@pytest.mark.parametrize("form", ["padded", "npz"])
def test_longer_recordings_are_refused_with_the_length_to_pass(form, tmp_path):
    packed = make_packed(tmp_path / "packed", longest=400)
    longest = int(packed.num_frame.max())
    refused(tmp_path / "out", f"--frames {longest}", form, "--data", packed.path, main=export_dataset.main)
    export(form, "--data", packed.path, "--out", tmp_path / "out", "--frames", longest)
    bring(form, tmp_path / "out", *flags("25 joints"), "--protocol", "xsub", "--out", tmp_path / "again")
    assert_same(packed, tmp_path / "again")


def test_an_existing_file_is_not_overwritten(tmp_path):
    packed = make_packed(tmp_path / "packed")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    for form in ("padded", "folder"):
        refused(tmp_path / "folder", tmp_path / "folder", form, "--data", packed.path, main=export_dataset.main)
    for form in ("npz", "pyskl"):
        mine = tmp_path / "folder" / "mine"
        refused(mine, mine, form, "--data", packed.path, main=export_dataset.main)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["mine"]
    assert (tmp_path / "folder" / "mine").read_text() == "mine"


@pytest.mark.parametrize("form", ["padded", "npz", "pyskl", "folder"])
def test_an_export_that_fails_leaves_nothing(form, tmp_path, monkeypatch):
    packed = make_packed(tmp_path / "packed")
    read, asked = PackedDataset.recording, []

    def fail(self: PackedDataset, index: int) -> np.ndarray:
        asked.append(index)
        if len(asked) == 3:
            raise OSError(28, "No space left on device")
        return read(self, index)

    monkeypatch.setattr(PackedDataset, "recording", fail)
    with pytest.raises(OSError, match="No space left"):
        export(form, "--data", packed.path, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_exports_that_cannot_be_are_refused(tmp_path):
    data, out = make_packed(tmp_path / "packed").path, tmp_path / "out"
    with packing(tmp_path / "many", (3, 25, 3)) as writer:
        writer.add("recordings", 0, np.zeros((2, 3, 25, 3), np.float32))
        splits = {"a": {"train": [0], "val": []}}
        writer.finish(splits, {"dataset": "own", "classes": 1, "made": {}})
    for where, *arguments in (
        ("'x'", "npz", "--data", data, "--protocol", "x"),
        (tmp_path, "npz", "--data", tmp_path),
        ("3 people", "npz", "--data", tmp_path / "many"),
        ("val", "padded", "--data", tmp_path / "many"),
        ("recordings.csv", "folder", "--as", "csv", "--data", tmp_path / "many"),
    ):
        refused(out, where, *arguments, main=export_dataset.main)


def test_the_arrays_of_the_npz_are_those_that_others_expect(tmp_path):
    packed = make_packed(tmp_path / "packed")
    export("npz", "--data", packed.path, "--out", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        arrays = {key: found[key] for key in found}
    val = packed.split("xsub", "val")
    assert arrays["x_test"].shape == (6, 300, 150) and arrays["x_test"].dtype == np.float32
    np.testing.assert_array_equal(arrays["y_test"].argmax(1), packed.label[val])
    np.testing.assert_array_equal(arrays["y_test"].sum(1), 1)
    clip = packed.recording(val[0])
    np.testing.assert_array_equal(arrays["x_test"][0, : len(clip), 75:78], clip[:, 1, 0])
    np.testing.assert_array_equal(arrays["x_test"][0, 1, 3:6], clip[1, 0, 1])
    assert not arrays["x_test"][0, len(clip) :].any()


def test_what_others_load_from_the_pickle(tmp_path):
    packed = make_packed(tmp_path / "packed")
    export("pyskl", "--data", packed.path, "--out", tmp_path / "out.pkl")
    found = pickle.loads((tmp_path / "out.pkl").read_bytes())
    assert found["split"]["xview_val"] == packed.names[packed.split("xview", "val")].tolist()
    assert sorted(found) == ["annotations", "split"] and len(found["annotations"]) == 12
    one = found["annotations"][3]
    assert one["frame_dir"] == packed.names[3] and one["label"] == packed.label[3]
    assert one["total_frames"] == packed.num_frame[3] and one["keypoint"].flags.c_contiguous
    np.testing.assert_array_equal(one["keypoint"].transpose(1, 0, 2, 3), packed.recording(3))

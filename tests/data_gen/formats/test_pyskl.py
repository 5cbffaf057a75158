"""Annotations as PYSKL and MMAction2 write them: read, without running them, or refused with nothing written."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from data_gen.packed.reader import PackedDataset
from data_gen.raw.normalise import normalise
from data_gen.skeletons import SKELETONS
from tests.data_gen.formats.samples import OWN, bring, refused


def annotations(dtype: type = np.float16, joints: int = 25, coordinates: int = 3) -> dict:
    """What PYSKL's preparation of raw recordings makes: camera coordinates, one or two people."""
    rng = np.random.default_rng(3)
    tables = []
    for i, (camera, subject, action) in enumerate([(1, 1, 2), (2, 1, 1), (1, 3, 12), (3, 6, 1)]):
        people, frames = 1 + i % 2, 4 + i
        keypoint = rng.normal(size=(people, frames, joints, coordinates)) + 3
        tables.append(
            {
                "frame_dir": f"S001C{camera:03}P{subject:03}R001A{action:03}",
                "label": action - 1,
                "keypoint": keypoint.astype(dtype),
                "keypoint_score": np.ones((people, frames, joints), np.float16),
                "total_frames": frames,
                "img_shape": (1080, 1920),
                "original_shape": (1080, 1920),
            }
        )
    names = [table["frame_dir"] for table in tables]
    split = {"xsub_train": names[:2], "xsub_val": names[2:], "xview_train": names[1::2], "xview_val": names[::2]}
    return {"split": split, "annotations": tables}


def write(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content, 4))
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ntu.pkl"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_annotations_are_normalised_as_raw_recordings(dtype, path, tmp_path):
    made = annotations(dtype)
    bring("pyskl", write(path, made), "--dataset", "demo", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.names.tolist() == sorted(table["frame_dir"] for table in made["annotations"])
    for table in made["annotations"]:
        i = packed.names.tolist().index(table["frame_dir"])
        expected = normalise(table["keypoint"].transpose(1, 0, 2, 3).astype(np.float64))
        np.testing.assert_array_equal(packed.recording(i), expected)
        assert packed.label[i] == table["label"]
    for split in ("train", "val"):
        assert set(packed.names[packed.split("xview", split)]) == set(made["split"][f"xview_{split}"])
    assert packed.shape == (2, 25, 3) and packed.info["made"]["normalised"]


def test_as_stored_keeps_the_values_in_any_layout(path, tmp_path):
    made = annotations(np.float32)
    for i, table in enumerate(made["annotations"]):
        keypoint = table["keypoint"]
        table["keypoint"] = [keypoint, np.asfortranarray(keypoint), keypoint[:, ::-1], keypoint.astype(">f4")][i]
        table["total_frames"], table["label"] = np.int64(table["total_frames"]), np.int32(table["label"])
    bring("pyskl", write(path, made), *OWN, "--as-stored", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    for table in made["annotations"]:
        clip = packed.recording(packed.names.tolist().index(table["frame_dir"]))
        people = len(table["keypoint"])
        np.testing.assert_array_equal(clip[:, :people], table["keypoint"].transpose(1, 0, 2, 3))
        assert not clip[:, people:].any()
    assert packed.protocols == ["xsub", "xview"] and packed.num_classes == 12


def test_flat_poses_are_cocos(path, tmp_path):
    bring("pyskl", write(path, annotations(joints=17, coordinates=2)), *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.skeleton == SKELETONS["coco"] and packed.shape == (2, 17, 2)
    first = ("--skeleton", "kinect_v1")
    refused(tmp_path / "no", f"{path}: keypoints of 17 joints", "pyskl", path, *OWN, *first)
    refused(tmp_path / "no", f"{path}: keypoints of 17 joints", "pyskl", path, "--dataset", "demo")
    refused(tmp_path / "no", f"{path}: holds coco", "pyskl", path, "--dataset", "demo", "--skeleton", "coco")
    write(path, annotations(joints=20))
    refused(tmp_path / "no", "--skeleton", "pyskl", path, *OWN)
    bring("pyskl", path, *OWN, *first, "--out", tmp_path / "twenty")
    assert PackedDataset(tmp_path / "twenty").skeleton.name == "kinect_v1"


def test_splits_of_other_names(path, tmp_path):
    made = annotations()
    names = [table["frame_dir"] for table in made["annotations"]]
    made["split"] = {"train1": names[:1], "test1": names[1:], "train": names[:2], "val": names[3:]}
    made["split"] |= {"xset_train": names[:3], "xset_val": []}
    bring("pyskl", write(path, made), *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.protocols == ["split1", "split", "xsetup"]
    assert packed.names[packed.split("split", "val")].tolist() == names[3:]
    bring("pyskl", path, *OWN, "--split", "one=subject:1", "--out", tmp_path / "ruled")
    ruled = PackedDataset(tmp_path / "ruled")
    assert sorted(ruled.names[ruled.split("one", "train")]) == sorted(names[:2])
    refused(tmp_path / "no", "--split", "pyskl", path, *OWN, "--split", "split=subject:1")


def edited(**changes: object) -> dict:
    made = annotations()
    made["annotations"][2] |= changes
    return made


def resplit(**lists: list[str]) -> dict:
    made = annotations()
    made["split"] |= lists
    return made


NAMES = [table["frame_dir"] for table in annotations()["annotations"]]
KEYPOINT = annotations()["annotations"][2]["keypoint"]


@pytest.mark.parametrize(
    "made, where",
    [
        ([], ""),
        ({"split": {}, "annotations": [1]}, "annotation 0"),
        ({"split": {}, "annotations": []}, ""),
        (edited(frame_dir="a/b"), "'a/b'"),
        (edited(frame_dir=NAMES[1]), f"annotation 2 ({NAMES[1]}): "),
        (edited(label=None), "annotation 2: "),
        (edited(label=3), f"{NAMES[2]} has label 3"),
        (edited(total_frames=5), "annotation 2: total_frames"),
        (edited(keypoint=[1]), "annotation 2: keypoint"),
        (edited(keypoint=KEYPOINT[..., :1]), "annotation 2: keypoint"),
        (edited(keypoint=KEYPOINT[:0]), "annotation 2: keypoint"),
        (edited(keypoint=KEYPOINT.astype(int)), "annotation 2: keypoint"),
        (edited(keypoint=KEYPOINT[:, :, :17]), "annotations differ"),
        (edited(keypoint=KEYPOINT * np.nan), f"annotation 2 ({NAMES[2]}): "),
        (edited(keypoint=KEYPOINT - KEYPOINT[:, :, 1:2]), f"annotation 2 ({NAMES[2]}): "),
        (resplit(xsub_train=["x"]), "split 'xsub_train' names 'x'"),
        (resplit(xsub_train=[*NAMES[:1] * 2]), f"split 'xsub_train' names '{NAMES[0]}'"),
        (resplit(xsub_train=NAMES), min(NAMES[2:])),
        (resplit(xsub_test=NAMES), "split 'xsub_test'"),
        (resplit(extra=NAMES), "split 'extra'"),
        (resplit(k_val=NAMES), "protocol k"),
        (resplit(xsub_train=NAMES[1:2], xsub_val=[NAMES[0]]), NAMES[0]),
    ],
)
def test_annotations_that_are_wrong_are_refused(made, where, path, tmp_path):
    refused(tmp_path / "out", f"{path}: {where}", "pyskl", write(path, made), "--dataset", "demo")


def test_labels_that_count_from_one_are_refused_or_shifted_when_told(path, tmp_path):
    made = annotations()
    for table in made["annotations"]:
        table["label"] += 1
    for flags in (("--dataset", "demo"), OWN, (*OWN, "--classes", "20")):
        refused(tmp_path / "out", "--labels-from 1", "pyskl", write(path, made), *flags)
    bring("pyskl", path, "--dataset", "demo", "--labels-from", "1", "--out", tmp_path / "demo")
    bring("pyskl", path, *OWN, "--labels-from", "1", "--out", tmp_path / "one")
    bring("pyskl", path, *OWN, "--labels-from", "0", "--out", tmp_path / "zero")
    labels = {name: PackedDataset(tmp_path / name).label.tolist() for name in ("demo", "one", "zero")}
    assert labels["demo"] == labels["one"] == [label - 1 for label in labels["zero"]] == [1, 11, 0, 0]
    assert PackedDataset(tmp_path / "zero").num_classes == 13
    made["annotations"][0]["label"] = 0
    refused(tmp_path / "no", "label -1", "pyskl", write(path, made), *OWN, "--labels-from", "1")
    made["annotations"][0]["label"] = 40
    many = (*OWN, "--classes", "20", "--labels-from", "0")
    refused(tmp_path / "no", "label 40", "pyskl", write(path, made), *many)

"""Annotations as PYSKL and MMAction2 write them: read, without running them, or refused with nothing written."""

import os
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_gen.formats import pickles
from data_gen.formats.pickles import load_annotations
from data_gen.packed.reader import PackedDataset
from data_gen.raw.normalise import normalise
from data_gen.skeletons import SKELETONS
from tests.data_gen.formats.samples import bring, refused
from utils.errors import UserError

OWN = ("--name", "own")


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


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ntu.pkl"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_annotations_of_every_protocol_are_normalised_as_raw_recordings(dtype, protocol, path, tmp_path, capsys):
    made = annotations(dtype)
    bring("pyskl", write(path, made, protocol), "--dataset", "demo", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.names.tolist() == sorted(table["frame_dir"] for table in made["annotations"])
    for table in made["annotations"]:
        i = packed.names.tolist().index(table["frame_dir"])
        expected = normalise(table["keypoint"].transpose(1, 0, 2, 3).astype(np.float64))
        np.testing.assert_array_equal(packed.recording(i), expected)
        assert packed.label[i] == table["label"]
    for side in ("train", "val"):
        assert set(packed.names[packed.split("xview", side)]) == set(made["split"][f"xview_{side}"])
    assert packed.shape == (2, 25, 3) and packed.info["made"]["normalised"]
    assert "they were raw" in capsys.readouterr().out


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_as_stored_keeps_the_values_in_any_layout(protocol, path, tmp_path):
    made = annotations(np.float32)
    for i, table in enumerate(made["annotations"]):
        keypoint = table["keypoint"]
        table["keypoint"] = [keypoint, np.asfortranarray(keypoint), keypoint[:, ::-1], keypoint.astype(">f4")][i]
        table["total_frames"], table["label"] = np.int64(table["total_frames"]), np.int32(table["label"])
    bring("pyskl", write(path, made, protocol), *OWN, "--as-stored", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    for table in made["annotations"]:
        clip = packed.recording(packed.names.tolist().index(table["frame_dir"]))
        people = len(table["keypoint"])
        np.testing.assert_array_equal(clip[:, :people], table["keypoint"].transpose(1, 0, 2, 3))
        assert not clip[:, people:].any()
    assert packed.protocols == ["xsub", "xview"] and packed.num_classes == 12


def test_flat_poses_are_cocos(path, tmp_path, capsys):
    made = annotations(joints=17, coordinates=2)
    bring("pyskl", write(path, made), *OWN, "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.skeleton == SKELETONS["coco"] and packed.shape == (2, 17, 2)
    refused(
        capsys, tmp_path / "no", "keypoints of 17 joints, kinect_v1 has 20: pass --skeleton", *_own(path, "kinect_v1")
    )
    message = "holds 2 people of 17 joints and 2 coordinates, demo has 2 of 25 and 3"
    refused(capsys, tmp_path / "no", message, "pyskl", path, "--dataset", "demo")
    write(path, annotations(joints=20))
    refused(capsys, tmp_path / "no", "keypoints of 20 joints, of which skeleton is not told", "pyskl", path, *OWN)
    bring(*_own(path, "kinect_v1"), "--out", tmp_path / "twenty")
    assert PackedDataset(tmp_path / "twenty").skeleton.name == "kinect_v1"


def _own(path: Path, skeleton: str) -> tuple[object, ...]:
    return ("pyskl", path, *OWN, "--skeleton", skeleton)


def test_splits_of_other_names(path, tmp_path, capsys):
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
    message = "there is a protocol split already"
    refused(capsys, tmp_path / "no", message, "pyskl", path, *OWN, "--split", "split=subject:1")


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
    "made, message",
    [
        ([], "refused: not a table with split and annotations"),
        ({"annotations": []}, "refused: not a table with split and annotations"),
        ({"split": [], "annotations": []}, "refused: split is no table"),
        ({"split": {"a": 1}, "annotations": []}, "refused: split 'a' is no list"),
        ({"split": {"a": [1]}, "annotations": []}, "refused: split 'a' holds what is no text"),
        ({"split": {}, "annotations": {}}, "refused: annotations is no list"),
        ({"split": {}, "annotations": [1]}, "refused: annotation 0 is no table"),
        ({"split": {}, "annotations": []}, "holds no annotations"),
        ({"split": {1: []}, "annotations": []}, "refused: a table with a key that is no text"),
        ({"split": {}, "annotations": [{"x": {1, 2}}]}, "refused: a set, which no data needs"),
        (edited(frame_dir=3), "annotation 2 has no frame_dir"),
        (edited(frame_dir="a/b"), "'a/b' is no name of 1 to 64 letters"),
        (edited(frame_dir=NAMES[1]), f"{NAMES[1]} is listed twice, or in train and in val"),
        (edited(label=None), f"annotation 2 ({NAMES[2]}) has no label, or one that is no whole number"),
        (edited(label=True), "has no label, or one that is no whole number"),
        (edited(label=3), f"{NAMES[2]} has label 3, its action − 1 is 11"),
        (edited(total_frames=5), f"annotation 2 ({NAMES[2]}) has 5 total_frames, its keypoint 6"),
        (edited(keypoint=[1]), f"annotation 2 ({NAMES[2]}): keypoint is no array"),
        (edited(keypoint=KEYPOINT[0]), "keypoint is not floats (M, T, V, 2 or 3), but f (6, 25, 3)"),
        (
            edited(keypoint=KEYPOINT[..., :1]),
            "keypoint is not floats (M, T, V, 2 or 3), but f (1, 6, 25, 1)",
        ),
        (edited(keypoint=KEYPOINT[:0]), "keypoint is not floats (M, T, V, 2 or 3), but f (0, 6, 25, 3)"),
        (edited(keypoint=KEYPOINT.astype(int)), "(M, T, V, 2 or 3), but i (1, 6, 25, 3)"),
        (edited(keypoint=KEYPOINT.astype(object)), "keypoint is no sound array (an array of type 'O8')"),
        (edited(keypoint=KEYPOINT[:, :, :17]), "keypoints of other joints and coordinates in one file"),
        (edited(keypoint=KEYPOINT[..., :2]), "keypoints of other joints and coordinates in one file"),
        (edited(keypoint=KEYPOINT * np.nan), f"annotation 2 ({NAMES[2]}) holds values that are not finite"),
        (
            edited(keypoint=KEYPOINT - KEYPOINT[:, :, 1:2]),
            "is centred on the first person's spine_middle, the first recor",
        ),
        (resplit(xsub_train=["x"]), "split 'xsub_train' names 'x', which has no annotation"),
        (resplit(xsub_train=[*NAMES[:1] * 2]), f"split 'xsub_train' names '{NAMES[0]}' twice"),
        (resplit(xsub_train=NAMES), f"'{min(NAMES[2:])}' is on both sides of xsub"),
        (resplit(xsub_test=NAMES), "split 'xsub_test' is a second val side of xsub"),
        (resplit(extra=NAMES), "split 'extra' is called neither x_train nor x_val"),
        (resplit(k_val=NAMES), "protocol k has only a val side"),
        (resplit(xsub_train=NAMES[1:2], xsub_val=[NAMES[0]]), f"'{NAMES[0]}' belongs to train in cross_subject"),
    ],
)
def test_annotations_that_are_wrong_are_refused(made, message, path, tmp_path, capsys):
    refused(capsys, tmp_path / "out", message, "pyskl", write(path, made), "--dataset", "demo")


def test_labels_that_count_from_one_are_refused_or_shifted_when_told(path, tmp_path, capsys):
    made = annotations()
    for table in made["annotations"]:
        table["label"] += 1
    message = "the labels count from 1, they must count from 0 (action − 1): say --labels-from 1"
    for flags in (("--dataset", "demo"), OWN, (*OWN, "--classes", "20")):
        refused(capsys, tmp_path / "out", message, "pyskl", write(path, made), *flags)
    bring("pyskl", path, "--dataset", "demo", "--labels-from", "1", "--out", tmp_path / "demo")
    bring("pyskl", path, *OWN, "--labels-from", "1", "--out", tmp_path / "one")
    bring("pyskl", path, *OWN, "--labels-from", "0", "--out", tmp_path / "zero")
    labels = {name: PackedDataset(tmp_path / name).label.tolist() for name in ("demo", "one", "zero")}
    assert labels["demo"] == labels["one"] == [label - 1 for label in labels["zero"]] == [1, 11, 0, 0]
    assert PackedDataset(tmp_path / "zero").num_classes == 13
    made["annotations"][0]["label"] = 0
    refused(capsys, tmp_path / "no", "has label -1, of 0 to", "pyskl", write(path, made), *OWN, "--labels-from", "1")
    made["annotations"][0]["label"] = 40
    many = (*OWN, "--classes", "20", "--labels-from", "0")
    refused(capsys, tmp_path / "no", "has label 40, of 0 to 19", "pyskl", write(path, made), *many)


class Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["keypoint", "label", "frame_dir", "anything", "split"])
def test_a_call_in_a_pickle_is_not_made(place, protocol, path, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = Call(os.system, "touch ran")
    made = resplit(xsub_val=call) if place == "split" else edited(**{place: call})
    refused(capsys, tmp_path / "out", "refused: it asks for 'posix.system'", "pyskl", write(path, made, protocol), *OWN)
    assert not (tmp_path / "ran").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "ran").exists(), "the attack itself does not work"


BILLION = b"]q\x00" + b"".join(b"(h%ch%ctq%c" % (i, i, i + 1) for i in range(100))


@pytest.mark.parametrize(
    "content, message",
    [
        (BILLION + b"}h\x64K\x01s.", "a key that is no text"),  # a hash of 2**100 steps
        (b"(" + BILLION + b"K\x01d.", "a key that is no text"),
        (b"}(" + BILLION + b"K\x01u.", "a key that is no text"),
        (b"}(Vx\nu.", "or a key without a value"),
        (b"](Vx\nK\x01u.", "entries of what is no table"),
        (b"(Vx\nd.", "or a key without a value"),
        (b"cnumpy\ndtype\n}Vx\nK\x01sb.", "a state for what has none"),
        (b"cnumpy\ndtype\n(N}V__defaults__\n)stb.", "a state for what has none"),
        (b"}Vx\nK\x01sb.", "not a sound pickle"),
        (b"}}b.", "not a table with split"),
        (b"cnumpy\ndtype\n(Vi8\ntR}b.", "not a sound pickle"),
        (b"}q\x00Vx\nh\x00s.", "not a table with split"),  # one that holds itself
        (b"}" * 10**5 + b"Vx\nK\x01s.", "not a table with split"),
        (b"cnumpy.core.numeric\n_frombuffer\n(VxVy\nVx\nK\x01\x85VC\n(K\x00ttR.", "too many values to unpack"),
    ],
)
def test_tables_that_do_harm_are_refused(content, message, path):
    path.write_bytes(content)
    start = time.process_time()
    with pytest.raises(UserError, match=message) as error:
        load_annotations(path)
    assert time.process_time() - start < 5 and str(error.value).startswith(f"{path}: ")


def test_arrays_that_claim_more_than_the_file_holds_are_refused(path, tmp_path, capsys):
    made = annotations(np.float32)
    shared = np.zeros((1, 5000, 25, 3), np.float32)
    for table in made["annotations"]:
        table |= {"keypoint": shared, "total_frames": 5000}
    refused(capsys, tmp_path / "out", "tells of more joints than it holds", "pyskl", write(path, made), *OWN)
    content = pickle.dumps(annotations(), 2)
    assert b"K\x02K\x07K\x19K\x03" in content
    for shape in (b"K\x02K\xffK\x19K\x03", b"K\x02K\x06K\x19K\x03"):
        path.write_bytes(content.replace(b"K\x02K\x07K\x19K\x03", shape).replace(b"total_frames", b"xxxxx_frames"))
        refused(capsys, tmp_path / "out", "", "pyskl", path, *OWN)
    with pytest.raises(ValueError, match="another number of items than it claims"):
        load_annotations(path)[1][3]["keypoint"].numpy()


def test_files_that_are_none_or_too_large_are_refused(path, tmp_path, capsys, monkeypatch):
    refused(capsys, tmp_path / "out", "cannot be read (no such file)", "pyskl", path, *OWN)
    content = pickle.dumps(annotations(), 4)
    for length in range(0, len(content), 101):
        path.write_bytes(content[:length])
        refused(capsys, tmp_path / "out", "not a sound pickle", "pyskl", path, *OWN)
    monkeypatch.setattr(pickles, "MAX_ANNOTATION_BYTES", 2**20)
    path.write_bytes(bytes(2**20 + 1))
    refused(capsys, tmp_path / "out", "larger than 1 MiB", "pyskl", path, *OWN)


@pytest.mark.parametrize("protocol", [2, 4])
def test_memory_stays_near_the_size_of_the_file(protocol, path, tmp_path):
    made = annotations(np.float32)
    made["split"] = {}
    made["annotations"] = [
        {
            "frame_dir": f"r{i:03}",
            "label": 0,
            "total_frames": 1000,
            "keypoint": np.full((2, 1000, 25, 3), i / 7 + 1, "f4"),
        }
        for i in range(50)
    ]  # 30 MB
    write(path, made, protocol)
    del made
    size = path.stat().st_size
    tracemalloc.start()
    bring("pyskl", path, *OWN, "--as-stored", "--out", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 28 * 2**20 and peak < 1.5 * size
    assert PackedDataset(tmp_path / "out").num_frame.sum() == 50_000

"""Archives as CTR-GCN and its kin write them: read row by row, or refused by member and row with nothing written."""

import io
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_gen.packed.reader import PackedDataset
from data_gen.raw.normalise import normalise
from tests.data_gen.formats.samples import bring, refused

FRAMES = 10
OWN = ("--name", "own")


def arrays(seed: int = 0, joints: int = 25, people: int = 2, classes: int = 4) -> dict[str, np.ndarray]:
    """Five and three recordings of 3 to 10 frames, centred in their first one; the last of train shows nobody."""
    rng = np.random.default_rng(seed)
    made = {}
    for part, count in (("train", 5), ("test", 3)):
        x = np.zeros((count, FRAMES, people, joints, 3), np.float32)
        for row in range(count):
            length = 3 + (row * 4) % 8
            x[row, :length] = rng.normal(size=(length, people, joints, 3))
            x[row, :length] -= x[row, 0, 0, 1]
        if part == "train":
            x[-1] = 0
        labels = np.arange(count) % classes
        made[f"x_{part}"] = x.reshape(count, FRAMES, -1)
        made[f"y_{part}"] = np.float64(labels[:, None] == np.arange(classes))
    return made


def length_of(row: np.ndarray) -> int:
    """Frames up to the last that is not zero, counted from the end; 1 where all are."""
    for length in range(len(row), 0, -1):
        if np.any(row[length - 1]):
            return length
    return 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_archives_of_others_are_stored_as_they_are(save, dtype, tmp_path, capsys):
    made = arrays()
    made["x_train"], made["y_test"] = made["x_train"].astype(dtype), made["y_test"].astype(np.int32)
    save(tmp_path / "CS.npz", **made)
    bring("npz", tmp_path / "CS.npz", *OWN, "--protocol", "xsub", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.names.tolist() == [f"train_{i:06}" for i in range(5)] + [f"val_{i:06}" for i in range(3)]
    assert packed.num_classes == 4 and packed.label.tolist() == [0, 1, 2, 3, 0, 0, 1, 2]
    assert packed.split("xsub", "train").tolist() == [0, 1, 2, 3, 4] and packed.shape == (2, 25, 3)
    for i, row in enumerate([*made["x_train"], *made["x_test"]]):
        length = length_of(row)
        assert packed.num_frame[i] == length
        np.testing.assert_array_equal(packed.recording(i), row[:length].astype(np.float32).reshape(length, 2, 25, 3))
    assert packed.info["without_a_body"] == ["train_000004"] and "normalised" not in packed.info["made"]
    assert "own: 8 recordings" in capsys.readouterr().out


def test_normalise_applies_this_projects_conversion(tmp_path, capsys):
    made = arrays()
    made["x_test"][:, :3] += 2
    np.savez(tmp_path / "CS.npz", **made)
    archive = ("npz", tmp_path / "CS.npz", *OWN)
    message = "recording 0 of x_test (val_000000) is not centred on the first person's spine_middle: say --normalise"
    refused(capsys, tmp_path / "out", message, *archive)
    bring(*archive, "--normalise", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    expected = normalise(made["x_test"][1, : length_of(made["x_test"][1])].reshape(-1, 2, 25, 3).astype(np.float64))
    np.testing.assert_array_equal(packed.recording(6), expected)
    assert packed.info["made"]["normalised"] and "they were raw" in capsys.readouterr().out
    bring(*archive, "--as-stored", "--out", tmp_path / "stored")
    stored = PackedDataset(tmp_path / "stored").recording(6)
    np.testing.assert_array_equal(stored.reshape(-1, 150), made["x_test"][1, : len(stored)])


def test_other_skeletons_and_one_person(tmp_path, capsys):
    np.savez(tmp_path / "CS.npz", **arrays(joints=20, people=1))
    refused(capsys, tmp_path / "out", "60 values a frame are not those", "npz", tmp_path / "CS.npz", *OWN)
    bring("npz", tmp_path / "CS.npz", *OWN, "--skeleton", "kinect_v1", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.shape == (1, 20, 3) and packed.skeleton.name == "kinect_v1"
    mapped = ("--skeleton", "kinect_v1", "--map-joints", "kinect_v2")
    bring("npz", tmp_path / "CS.npz", *OWN, *mapped, "--out", tmp_path / "mapped")
    onto = PackedDataset(tmp_path / "mapped")
    assert onto.shape == (1, 25, 3) and onto.skeleton.name == "kinect_v2"
    np.testing.assert_array_equal(onto.joints[:, :, :20], packed.joints)
    np.testing.assert_array_equal(onto.joints[:, :, 20], packed.joints[:, :, 2])
    message = "there is no joint mapping from kinect_v1 to coco"
    wrong = (*mapped[:2], "--map-joints", "coco")
    refused(capsys, tmp_path / "out2", message, "npz", tmp_path / "CS.npz", *OWN, *wrong)


def test_published_data_sets_need_their_protocol_and_classes(tmp_path, capsys):
    np.savez(tmp_path / "CS.npz", **arrays(classes=12))
    demo = ("npz", tmp_path / "CS.npz", "--dataset", "demo")
    refused(capsys, tmp_path / "out", "--protocol must say", *demo)
    bring(*demo, "--protocol", "cross_view", "--out", tmp_path / "out")
    assert PackedDataset(tmp_path / "out").protocols == ["xview"]
    assert "cross_view (xview): 5 train, 3 val" in capsys.readouterr().out
    np.savez(tmp_path / "CS.npz", **arrays(classes=13))
    refused(capsys, tmp_path / "no", "holds 13 classes, simulated demo has 12", *demo, "--protocol", "xsub")


def edit(path: Path, **changes: object) -> None:
    np.savez(path, **{**arrays(), **changes})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"x_train": arrays()["x_train"][:4]}, "y_train holds float64 (5, 4), expected one-hot (4, classes)"),
        (
            {"x_train": arrays()["x_train"].astype(int)},
            "x_train holds int64 (5, 10, 150), expected float32 (N, T, 150)",
        ),
        ({"x_test": arrays()["x_test"][0]}, "x_test holds float32 (10, 150), expected float32 (N, T, 150)"),
        ({"x_test": arrays()["x_test"][:0]}, "x_test holds no recordings"),
        ({"x_test": arrays()["x_test"][:, :0]}, "x_test has 0 frames, of 1 to 20000"),
        ({"x_test": arrays()["x_test"][:, :, :75]}, "train and test have other values a frame"),
        ({"x_test": np.asfortranarray(arrays()["x_test"])}, "x_test is in Fortran's order"),
        ({"y_test": np.arange(3)}, "y_test holds int64 (3,), expected one-hot (3, classes)"),
        ({"y_test": np.eye(4)[:3] * 2}, "recording 0 of y_test is not one-hot"),
        ({"y_test": np.array([[1, 0], [1, 1], [0, 1]])}, "recording 1 of y_test is not one-hot"),
        ({"y_test": np.array([[1, 0], [0, 1], [0, 0]])}, "recording 2 of y_test is not one-hot"),
        ({"y_test": np.array([[1, 0], [0.5, 0.5], [0, 1]])}, "recording 1 of y_test is not one-hot"),
        ({"y_test": np.array([[np.nan, 1], [0, 1], [0, 1]])}, "recording 0 of y_test is not one-hot"),
        ({"y_test": np.eye(5)[:3]}, "other numbers of classes"),
        ({"y_test": np.array([{}] * 3)}, "y_test: cannot be read (an array of object)"),
        ({"name_train": np.array(list("abcde"))}, "has no num_frame_train"),
    ],
)
def test_arrays_that_are_wrong_are_refused(changes, message, tmp_path, capsys):
    edit(tmp_path / "CS.npz", **changes)
    refused(capsys, tmp_path / "out", message, "npz", tmp_path / "CS.npz", *OWN)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"name_train": np.array(list("baced"))}, "the names in name_train do not ascend"),
        ({"name_train": np.array(["a", "b", "c", "c", "d"])}, "c is listed twice, or in train and in val"),
        ({"name_test": np.array(["a", "x", "y"])}, "a is listed twice, or in train and in val"),
        ({"name_test": np.array(["u", "v w", "x"])}, "'v w' is no name"),
        ({"name_test": np.array(["u", "v", "é"])}, "name_test holds text beyond ASCII"),
        ({"name_test": np.arange(3)}, "name_test or num_frame_test is not text, or integers, (3,)"),
        ({"num_frame_test": np.array([3, 7, 11])}, "num_frame_test holds numbers outside 1 to 10"),
        ({"num_frame_test": np.array([3, 6, 10])}, "recording 1 of x_test (y) has values after its 6 frames"),
    ],
)
def test_names_and_frames_that_are_wrong_are_refused(changes, message, tmp_path, capsys):
    extra = {"name_train": np.array(list("abcde")), "name_test": np.array(list("xyz"))}
    extra |= {"num_frame_train": np.full(5, 10), "num_frame_test": np.full(3, 10)}
    edit(tmp_path / "CS.npz", **{**extra, **changes})
    refused(capsys, tmp_path / "out", message, "npz", tmp_path / "CS.npz", *OWN)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_wherever_they_are(value, tmp_path, capsys):
    made = arrays()
    made["x_train"][1, 9, 149] = value
    np.savez(tmp_path / "CS.npz", **made)
    message = "recording 1 of x_train (train_000001) holds values that are not finite"
    refused(capsys, tmp_path / "out", message, "npz", tmp_path / "CS.npz", *OWN)


def test_damaged_archives_are_refused(tmp_path, capsys):
    path = tmp_path / "CS.npz"
    refused(capsys, tmp_path / "out", "cannot be read (no such file)", "npz", path, *OWN)
    path.write_bytes(b"no archive")
    refused(capsys, tmp_path / "out", "cannot be read (File is not a zip file)", "npz", path, *OWN)
    np.savez(path, **{key: value for key, value in arrays().items() if key != "y_test"})
    refused(capsys, tmp_path / "out", "has no y_test; it holds x_test, x_train, y_train", "npz", path, *OWN)
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    place = content.index(arrays()["x_test"].tobytes())
    content[place + 600] ^= 1  # a frame of the first recording: its checksum tells
    path.write_bytes(content)
    refused(capsys, tmp_path / "out", "x_test: cannot be read (Bad CRC-32", "npz", path, *OWN)
    path.write_bytes(content[: len(content) // 2])
    refused(capsys, tmp_path / "out", "cannot be read", "npz", path, *OWN)


def test_headers_that_lie_are_refused(tmp_path, capsys):
    for shape in ((10**9, 300, 150), (5, FRAMES, 149)):
        start = io.BytesIO()
        np.lib.format.write_array_header_1_0(start, {"descr": "<f4", "fortran_order": False, "shape": shape})
        np.savez(tmp_path / "CS.npz", **{k: v for k, v in arrays().items() if k != "x_train"})
        with zipfile.ZipFile(tmp_path / "CS.npz", "a") as archive:
            archive.writestr("x_train.npy", start.getvalue() + arrays()["x_train"].tobytes())
        message = "x_train: cannot be read (its header tells of"
        refused(capsys, tmp_path / "out", message, "npz", tmp_path / "CS.npz", *OWN)


def test_memory_does_not_grow_with_the_archive(tmp_path):
    count, path = 1500, tmp_path / "CS.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part in ("train", "test"):
            with archive.open(f"x_{part}.npy", "w", force_zip64=True) as file:  # 270 MB
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, 300, 150)}
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(count):
                    file.write(bytes(300 * 150 * 4))
            with archive.open(f"y_{part}.npy", "w") as file:
                np.lib.format.write_array(file, np.eye(3)[np.arange(count) % 3])
    tracemalloc.start()
    began = time.process_time()
    bring("npz", path, *OWN, "--out", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(PackedDataset(tmp_path / "out")) == 2 * count
    assert peak < 2**24 and time.process_time() - began < 60

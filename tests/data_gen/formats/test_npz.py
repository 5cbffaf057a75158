"""Archives as CTR-GCN and its kin write them: read row by row, or refused by member and row with nothing written."""

import tracemalloc
import zipfile

import numpy as np
import pytest

from data_gen.packed.reader import PackedDataset
from data_gen.raw.normalise import normalise
from tests.data_gen.formats.samples import OWN, bring, refused

FRAMES = 10


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


@pytest.mark.parametrize("save, dtype", [(np.savez, np.float32), (np.savez_compressed, np.float64)])
def test_archives_of_others_are_stored_as_they_are(save, dtype, tmp_path):
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


def test_normalise_applies_this_projects_conversion(tmp_path):
    made = arrays()
    made["x_test"][:, :3] += 2
    broken = {**made, "x_train": np.where(np.arange(150) == 149, np.nan, made["x_train"]).astype(np.float32)}
    np.savez(tmp_path / "broken.npz", **broken)
    refused(tmp_path / "out", "recording 0 of x_train (train_000000): ", "npz", tmp_path / "broken.npz", *OWN)
    np.savez(tmp_path / "CS.npz", **made)
    archive = ("npz", tmp_path / "CS.npz", *OWN)
    refused(tmp_path / "out", f"{tmp_path}/CS.npz: recording 0 of x_test (val_000000)", *archive)
    bring(*archive, "--normalise", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    expected = normalise(made["x_test"][1, : length_of(made["x_test"][1])].reshape(-1, 2, 25, 3).astype(np.float64))
    np.testing.assert_array_equal(packed.recording(6), expected)
    assert packed.info["made"]["normalised"]
    bring(*archive, "--as-stored", "--out", tmp_path / "stored")
    stored = PackedDataset(tmp_path / "stored").recording(6)
    np.testing.assert_array_equal(stored.reshape(-1, 150), made["x_test"][1, : len(stored)])


def test_other_skeletons_and_one_person(tmp_path):
    np.savez(tmp_path / "CS.npz", **arrays(joints=20, people=1))
    refused(tmp_path / "out", "--skeleton", "npz", tmp_path / "CS.npz", *OWN)
    bring("npz", tmp_path / "CS.npz", *OWN, "--skeleton", "kinect_v1", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.shape == (1, 20, 3) and packed.skeleton.name == "kinect_v1"
    mapped = ("--skeleton", "kinect_v1", "--map-joints", "kinect_v2")
    bring("npz", tmp_path / "CS.npz", *OWN, *mapped, "--out", tmp_path / "mapped")
    onto = PackedDataset(tmp_path / "mapped")
    assert onto.shape == (1, 25, 3) and onto.skeleton.name == "kinect_v2"
    np.testing.assert_array_equal(onto.joints[:, :, :20], packed.joints)
    np.testing.assert_array_equal(onto.joints[:, :, 20], packed.joints[:, :, 2])
    wrong = (*mapped[:2], "--map-joints", "coco")
    refused(tmp_path / "out2", "kinect_v1 to coco", "npz", tmp_path / "CS.npz", *OWN, *wrong)


def test_published_data_sets_need_their_protocol_and_classes(tmp_path):
    np.savez(tmp_path / "CS.npz", **arrays(classes=12))
    demo = ("npz", tmp_path / "CS.npz", "--dataset", "demo")
    refused(tmp_path / "out", "--protocol", *demo)
    bring(*demo, "--protocol", "cross_view", "--out", tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert packed.protocols == ["xview"] and len(packed.split("xview", "train")) == 5
    np.savez(tmp_path / "CS.npz", **arrays(classes=13))
    refused(tmp_path / "no", tmp_path / "CS.npz", *demo, "--protocol", "xsub")


@pytest.mark.parametrize(
    "changes, where",
    [
        ({"x_train": arrays()["x_train"][:4]}, "y_train"),
        ({"x_train": arrays()["x_train"].astype(int)}, "x_train"),
        ({"x_test": arrays()["x_test"][0]}, "x_test"),
        ({"x_test": arrays()["x_test"][:, :, :75]}, "train and test"),
        ({"x_test": np.asfortranarray(arrays()["x_test"])}, "x_test"),
        ({"y_test": np.arange(3)}, "y_test"),
        ({"y_test": np.array([[1, 0], [1, 1], [0, 1]])}, "recording 1 of y_test"),
        ({"y_test": np.array([[1, 0], [0.5, 0.5], [0, 1]])}, "recording 1 of y_test"),
        ({"y_test": np.eye(5)[:3]}, "train and test"),
        ({"y_test": np.array([{}] * 3)}, ""),
        ({"name_train": np.array(list("abcde"))}, "has no num_frame_train"),
    ],
)
def test_arrays_that_are_wrong_are_refused(changes, where, tmp_path):
    np.savez(tmp_path / "CS.npz", **{**arrays(), **changes})
    refused(tmp_path / "out", f"{tmp_path / 'CS.npz'}: {where}", "npz", tmp_path / "CS.npz", *OWN)


@pytest.mark.parametrize(
    "changes, where",
    [
        ({"name_train": np.array(list("baced"))}, "name_train"),
        ({"name_train": np.array(["a", "b", "c", "c", "d"])}, "recording 3 of x_train (c)"),
        ({"name_test": np.array(["a", "x", "y"])}, "recording 0 of x_test (a)"),
        ({"name_test": np.array(["u", "v", "é"])}, "'é'"),
        ({"name_test": np.array(["a", "b"])}, "name_test"),
        ({"num_frame_test": np.array([3, 11, 10])}, "recording 1 of x_test (y): "),
        ({"num_frame_test": np.array([3, 6, 10])}, "recording 1 of x_test (y): "),
    ],
)
def test_names_and_frames_that_are_wrong_are_refused(changes, where, tmp_path):
    extra = {"name_train": np.array(list("abcde")), "name_test": np.array(list("xyz"))}
    extra |= {"num_frame_train": np.full(5, 10), "num_frame_test": np.full(3, 10)}
    np.savez(tmp_path / "CS.npz", **{**arrays(), **extra, **changes})
    refused(tmp_path / "out", f"{tmp_path / 'CS.npz'}: {where}", "npz", tmp_path / "CS.npz", *OWN)


def test_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "CS.npz"
    refused(tmp_path / "out", f"{path}: no such file", "npz", path, *OWN)
    path.write_bytes(b"no archive")
    refused(tmp_path / "out", path, "npz", path, *OWN)
    np.savez(path, **{key: value for key, value in arrays().items() if key != "y_test"})
    refused(tmp_path / "out", f"{path}: has no y_test", "npz", path, *OWN)
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    place = content.index(arrays()["x_test"].tobytes())
    content[place + 600] ^= 1  # a frame of the first recording: its checksum tells
    path.write_bytes(content)
    refused(tmp_path / "out", f"{path}: recording 2 of x_test", "npz", path, *OWN)
    path.write_bytes(content[: len(content) // 2])
    refused(tmp_path / "out", path, "npz", path, *OWN)


def test_memory_does_not_grow_with_the_archive(tmp_path):
    count, path = 500, tmp_path / "CS.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part in ("train", "test"):
            with archive.open(f"x_{part}.npy", "w", force_zip64=True) as file:  # 90 MB
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, 300, 150)}
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(count):
                    file.write(bytes(300 * 150 * 4))
            with archive.open(f"y_{part}.npy", "w") as file:
                np.lib.format.write_array(file, np.eye(3)[np.arange(count) % 3])
    tracemalloc.start()
    bring("npz", path, *OWN, "--out", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(PackedDataset(tmp_path / "out")) == 2 * count
    assert peak < 2**24

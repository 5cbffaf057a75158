"""Padded arrays become the packed data set that they were made from, or are refused with nothing written."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_gen.datasets import DATASETS
from data_gen.ntu_gendata import convert
from data_gen.packed.reader import INFO, SPLITS, PackedDataset
from tests.data_gen.formats.samples import bring, export
from tests.helpers import GOLDEN, tiny_dataset
from utils.errors import UserError

LENGTH = 12  # frames of the padded arrays; 300 in earnest


def write_padded(packed: PackedDataset, folder: Path, protocol: str = "xsub", length: int = LENGTH) -> Path:
    """What related projects make of the same recordings, with `length` frames and names in the order of a directory."""
    folder.mkdir()
    for split in SPLITS:
        rows = np.random.default_rng(0).permutation(packed.split(protocol, split))
        data = np.zeros((len(rows), 3, length, 25, 2), np.float32)
        for row, index in enumerate(rows):
            people = packed.recording(index)
            data[row, :, : len(people)] = people.transpose(3, 0, 2, 1)
        data[:, :, -1] += data[:, :, -1] == 0  # padding, of no matter
        np.save(folder / f"{split}_data_joint.npy", data)
        np.save(folder / f"{split}_num_frame.npy", packed.num_frame[rows])
        names = [f"{name}.skeleton" for name in packed.names[rows]]
        (folder / f"{split}_label.pkl").write_bytes(pickle.dumps((names, packed.label[rows].tolist())))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A packed data set of 24 recordings, `demo`, and the padded arrays of its x-sub, `xsub`."""
    packed = tiny_dataset(tmp_path_factory.mktemp("made"), num_frame=(2, LENGTH))
    write_padded(packed, packed.path.parent / "xsub")
    return packed.path.parent


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "xsub", tmp_path / "xsub"))


def load(folder: Path, out: Path, dataset="demo", protocol="xsub") -> None:
    bring("padded", "--dataset", dataset, "--protocol", protocol, folder, "--out", out, "--replace")


def refused(folder: Path, where: str, protocol="xsub") -> None:
    """The command ends with an error about the place; neither a new data set is written nor an earlier one touched."""
    out = folder.parent / "out"
    out.mkdir(exist_ok=True)
    (out / INFO).write_text("earlier")
    with pytest.raises(UserError, match=where):
        load(folder, out, protocol=protocol)
    assert os.listdir(out) == [INFO] and (out / INFO).read_text() == "earlier"


def edit_labels(folder: Path, change, split: str = "train") -> None:
    """Replace (names, labels) by what `change` makes of them."""
    path = folder / f"{split}_label.pkl"
    path.write_bytes(pickle.dumps(change(*pickle.loads(path.read_bytes()))))


def drop_names(folder: Path) -> dict[str, list[str]]:
    """Labels in .npy instead of the pickles; returns the names."""
    names = {}
    for split in SPLITS:
        path = folder / f"{split}_label.pkl"
        names[split], labels = pickle.loads(path.read_bytes())
        np.save(folder / f"{split}_label.npy", labels)
        path.unlink()
    return names


@pytest.mark.parametrize("protocol, name", [("cross_subject", "xsub"), ("xview", "xview")])
def test_arrays_of_another_project_give_the_data_set_bit_for_bit(protocol, name, made, tmp_path, capsys):
    folder = write_padded(PackedDataset(made / "demo"), tmp_path / "padded", name)
    load(folder, tmp_path / "out", protocol=protocol)
    arrays = sorted(path.name for path in (made / "demo").glob("*.npy"))
    assert arrays == sorted(path.name for path in (tmp_path / "out").glob("*.npy")) and len(arrays) == 8
    for file in arrays:
        assert (tmp_path / "out" / file).read_bytes() == (made / "demo" / file).read_bytes(), file
    before, after = (json.loads((path / INFO).read_text()) for path in (made / "demo", tmp_path / "out"))
    assert after.pop("made") == {"padded": str(folder), "protocol": name}
    assert after == {key: before[key] for key in after}
    assert "cross_view (xview): 12 train, 12 val" in capsys.readouterr().out


def write_golden(folder: Path) -> np.lib.npyio.NpzFile:
    """The arrays of the published implementation, as files."""
    golden = np.load(GOLDEN / "converted.npz")
    folder.mkdir()
    for split in SPLITS:
        np.save(folder / f"{split}_data_joint.npy", golden[f"xsub_{split}_data"])
        np.save(folder / f"{split}_num_frame.npy", golden[f"xsub_{split}_num_frame"])
        labels = golden[f"xsub_{split}_names"].tolist(), golden[f"xsub_{split}_labels"]
        (folder / f"{split}_label.pkl").write_bytes(pickle.dumps(labels))
    return golden


def test_arrays_of_the_published_implementation(tmp_path):
    write_golden(tmp_path / "xsub")
    load(tmp_path / "xsub", tmp_path / "imported", dataset="ntu120")
    shutil.unpack_archive(GOLDEN / "skeletons.zip", tmp_path / "raw")
    convert(DATASETS["ntu120"], [tmp_path / "raw"], tmp_path / "converted")
    imported, converted = PackedDataset(tmp_path / "imported"), PackedDataset(tmp_path / "converted")
    for array in ("names", "label", "num_frame"):
        np.testing.assert_array_equal(getattr(imported, array), getattr(converted, array))
    np.testing.assert_allclose(imported.joints, converted.joints, atol=1e-5)
    assert imported.info["without_a_body"] == converted.info["without_a_body"]
    for protocol in ("xsub", "xsetup"):
        for split in SPLITS:
            np.testing.assert_array_equal(imported.split(protocol, split), converted.split(protocol, split))


def test_exported_padding_is_that_of_the_published_implementation(tmp_path):
    golden = write_golden(tmp_path / "xsub")
    load(tmp_path / "xsub", tmp_path / "packed", dataset="ntu120")
    export("padded", "--data", tmp_path / "packed", "--protocol", "xsub", "--out", tmp_path / "out")
    same = 0
    for split in SPLITS:
        names, labels = pickle.loads((tmp_path / "out" / f"{split}_label.pkl").read_bytes())
        data, before = np.load(tmp_path / "out" / f"{split}_data_joint.npy"), golden[f"xsub_{split}_data"]
        assert data.shape == before.shape and data.dtype == before.dtype
        order = [f"{name.removesuffix('.skeleton')}.skeleton" for name in golden[f"xsub_{split}_names"].tolist()]
        assert sorted(names) == sorted(order)
        for row, name in enumerate(names):
            old = order.index(name)
            frames = golden[f"xsub_{split}_num_frame"][old]
            assert labels[row] == golden[f"xsub_{split}_labels"][old]
            np.testing.assert_array_equal(data[row, :, :frames], before[old, :, :frames])
            same += np.array_equal(data[row], before[old])
    assert same >= 8  # of 13: the others lose a person before their end, which the published converter fills otherwise


def test_labels_without_names_keep_the_folders_own_split(made, folder, tmp_path):
    names = drop_names(folder)
    load(folder, tmp_path / "out", protocol="xview")  # whatever it is called
    packed, original = PackedDataset(tmp_path / "out"), PackedDataset(made / "demo")
    assert packed.protocols == ["xview"] and not list((tmp_path / "out").glob("xsub*"))
    assert packed.names[[0, 11, 12, 23]].tolist() == ["train_000000", "train_000011", "val_000000", "val_000011"]
    for split in SPLITS:
        for row, index in enumerate(packed.split("xview", split)):
            assert packed.names[index] == f"{split}_{row:06d}"
            same = original.names.tolist().index(names[split][row].removesuffix(".skeleton"))
            np.testing.assert_array_equal(packed.recording(index), original.recording(same))
            assert packed.label[index] == original.label[same]


@pytest.mark.parametrize(
    "change, where",
    [
        (lambda n, x: (n, [i + 1 for i in x]), "train_label.pkl: .*--labels-from"),
        (lambda n, x: (n, [(i + 1) % 3 for i in x]), "train_label.pkl: S001.* has label"),
        (lambda n, x: (n, [*x[:-1], 11]), "train_label.pkl: S001.* has label 11"),
        (lambda n, x: (n[1:], x), "train_label.pkl: .*11 names and 12 labels"),
        (lambda n, x: ([*n[:-1], n[0]], [*x[:-1], x[0]]), "train_data_joint.npy: recording .*S001"),
        (lambda n, x: ([*n[:-1], "S002C001P003R001A001"], [*x[:-1], 0]), "S002C001P003R001A001 .*xsub"),
        (lambda n, x: ([*n[:-1], "S018C001P001R001A001"], [*x[:-1], 0]), "S018C001P001R001A001"),
        (lambda n, x: ([*n[:-1], "../S001C001P001R001A001"], x), "'../S001C001P001R001A001'"),
        (lambda n, x: ([*n[:-1], "walking_2"], x), "train_label.pkl: walking_2"),
        (lambda n, x: (n, [float(i) for i in x]), "train_label.pkl: .*float"),
    ],
)
def test_labels_that_are_wrong_are_refused(change, where, folder):
    edit_labels(folder, change)
    refused(folder, where)


def test_a_folder_of_another_protocol_is_refused_by_a_recordings_name(folder):
    refused(folder, r"train_label.pkl: S001C.*xview", protocol="xview")
    refused(folder, "'xsetup'", protocol="xsetup")
    for old, new in (("train", "old"), ("val", "train"), ("old", "val")):
        for file in folder.glob(f"{old}_*"):
            file.rename(folder / file.name.replace(old, new))
    refused(folder, "train_label.pkl: S001C00")


@pytest.mark.parametrize(
    "labels, where",
    [
        (np.arange(12) + 1, "train_label.npy: .*--labels-from"),
        (np.arange(12) - 1, "train_label.npy: train_000000 has label -1"),
        (np.arange(12) * 2, "train_label.npy: train_000006 has label 12"),
        (np.arange(12) / 2, "train_label.npy: .*float64"),
        (np.zeros((12, 1), int), r"train_label.npy: .*\(12, 1\)"),
        (np.array([{}] * 12), "train_label.npy: "),
    ],
)
def test_labels_without_names_that_are_wrong_are_refused(labels, where, folder):
    drop_names(folder)
    np.save(folder / "val_label.npy", np.full(12, 1))
    np.save(folder / "train_label.npy", labels, allow_pickle=True)
    refused(folder, where)


@pytest.mark.parametrize(
    "file, change, where",
    [
        ("num_frame", lambda a: np.where(np.arange(12) == 5, 0, a), "num_frame.npy: recording 5"),
        ("num_frame", lambda a: np.where(np.arange(12) == 5, 13, a), "num_frame.npy: recording 5"),
        ("num_frame", lambda a: a[1:], "num_frame.npy"),
        ("data_joint", lambda a: a[:0], "data_joint.npy"),
        ("data_joint", lambda a: a[..., :1], "xsub: "),
        ("data_joint", lambda a: a[:, :, :, :20], "data_joint.npy: .*--skeleton"),
        ("data_joint", lambda a: a.transpose(0, 2, 4, 3, 1).copy(), "data_joint.npy"),
        ("data_joint", lambda a: a.astype(np.float64), "data_joint.npy"),
    ],
)
def test_arrays_that_are_wrong_are_refused(file, change, where, folder):
    path = folder / f"train_{file}.npy"
    np.save(path, change(np.load(path)))
    refused(folder, where)


def test_values_that_are_not_finite_or_raw_are_refused_unless_they_are_padding(folder, tmp_path):
    path = folder / "val_data_joint.npy"
    data, num_frame = np.load(path), np.load(folder / "val_num_frame.npy")
    row = int(num_frame.argmin())
    data[row, 2, num_frame[row] :, 24, 1] = np.nan
    np.save(path, data)
    load(folder, tmp_path / "out")
    data[row, 2, num_frame[row] - 1, 24, 1] = np.nan
    np.save(path, data)
    name = pickle.loads((folder / "val_label.pkl").read_bytes())[0][row].removesuffix(".skeleton")
    shutil.rmtree(tmp_path / "out")
    refused(folder, rf"{path}: recording {row} \({name}\)")
    np.save(path, np.zeros_like(data) + np.float32(0.5))
    refused(folder, f"{path}: recording .*--normalise")


def test_files_that_are_missing_or_cut_short_are_refused(folder):
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        refused(folder, f"{file}: ")
        file.unlink()
        refused(folder, "no such file")
        file.write_bytes(content)

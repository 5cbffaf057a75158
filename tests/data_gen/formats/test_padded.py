"""Padded arrays become the packed data set that they were made from, or are refused with nothing written."""

import json
import os
import pickle
import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_gen.datasets import DATASETS
from data_gen.export_dataset import main as export
from data_gen.formats.base import Options, pack
from data_gen.formats.padded import read_padded
from data_gen.import_dataset import main
from data_gen.ntu_gendata import convert
from data_gen.packed.reader import INFO, SIDES, PackedDataset
from data_gen.packed.writer import locked
from data_gen.skeletons import KINECT_V2
from tests.helpers import GOLDEN, run_python, tiny_dataset
from tests.programs import status_of

LENGTH = 12  # frames of the padded arrays; 300 in earnest


def write_padded(packed: PackedDataset, folder: Path, protocol: str = "xsub", length: int = LENGTH) -> Path:
    """What related projects make of the same recordings, with `length` frames and names in the order of a directory."""
    folder.mkdir()
    for side in SIDES:
        rows = np.random.default_rng(0).permutation(packed.split(protocol, side))
        data = np.zeros((len(rows), 3, length, 25, 2), np.float32)
        for row, index in enumerate(rows):
            people = packed.recording(index)
            data[row, :, : len(people)] = people.transpose(3, 0, 2, 1)
        data[:, :, -1] += data[:, :, -1] == 0  # padding, of no matter
        np.save(folder / f"{side}_data_joint.npy", data)
        np.save(folder / f"{side}_num_frame.npy", packed.num_frame[rows])
        names = [f"{name}.skeleton" for name in packed.names[rows]]
        (folder / f"{side}_label.pkl").write_bytes(pickle.dumps((names, packed.label[rows].tolist())))
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


def command(folder: Path, out: Path, *, dataset="demo", protocol="xsub") -> int:
    return status_of(
        main, ["padded", "--dataset", dataset, "--protocol", protocol, str(folder), "--out", str(out), "--replace"]
    )


def refused(folder: Path, message: str, capsys, dataset="demo", protocol="xsub") -> None:
    """The command ends with the message; neither a new data set is written nor an earlier one touched."""
    out = folder.parent / "out"
    out.mkdir(exist_ok=True)
    (out / INFO).write_text("earlier")
    assert command(folder, out, dataset=dataset, protocol=protocol) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and message in said.err and said.err.count("\n") == 1 and not said.out
    assert os.listdir(out) == [INFO] and (out / INFO).read_text() == "earlier"


def edit_labels(folder: Path, change, side: str = "train") -> None:
    """Replace (names, labels) by what `change` makes of them."""
    path = folder / f"{side}_label.pkl"
    path.write_bytes(pickle.dumps(change(*pickle.loads(path.read_bytes()))))


def drop_names(folder: Path) -> dict[str, list[str]]:
    """Labels in .npy instead of the pickles; returns the names."""
    names = {}
    for side in SIDES:
        path = folder / f"{side}_label.pkl"
        names[side], labels = pickle.loads(path.read_bytes())
        np.save(folder / f"{side}_label.npy", labels)
        path.unlink()
    return names


@pytest.mark.parametrize("protocol", ["xsub", "cross_subject", "xview"])
def test_a_round_trip_changes_no_bit(protocol, made, tmp_path, capsys):
    folder = write_padded(PackedDataset(made / "demo"), tmp_path / "padded", protocol.replace("cross_subject", "xsub"))
    assert command(folder, tmp_path / "out", protocol=protocol) == 0
    PackedDataset(tmp_path / "out")
    arrays = sorted(path.name for path in (made / "demo").glob("*.npy"))
    assert arrays == sorted(path.name for path in (tmp_path / "out").glob("*.npy")) and len(arrays) == 8
    for name in arrays:
        assert (tmp_path / "out" / name).read_bytes() == (made / "demo" / name).read_bytes(), name
    before, after = (json.loads((path / INFO).read_text()) for path in (made / "demo", tmp_path / "out"))
    assert after.pop("made") == {"padded": str(folder), "protocol": protocol.replace("cross_subject", "xsub")}
    assert after == {key: before[key] for key in after}
    assert capsys.readouterr().out.splitlines() == [
        f"simulated demo: 24 recordings of 12 classes, {before['frames']:,} frames in {tmp_path / 'out'}",
        "  cross_subject (xsub): 12 train, 12 val",
        "  cross_view (xview): 12 train, 12 val",
    ]


def test_arrays_of_the_published_implementation(tmp_path, capsys):
    golden, folder = np.load(GOLDEN / "converted.npz"), tmp_path / "xsub"
    folder.mkdir()
    for side in SIDES:
        for part, file in (("data", "data_joint"), ("num_frame", "num_frame")):
            np.save(folder / f"{side}_{file}.npy", golden[f"xsub_{side}_{part}"])
        labels = golden[f"xsub_{side}_names"].tolist(), golden[f"xsub_{side}_labels"]
        (folder / f"{side}_label.pkl").write_bytes(pickle.dumps(labels))
    assert command(folder, tmp_path / "imported", dataset="ntu120") == 0
    assert "cross_setup (xsetup): 8 train, 5 val (published: 54,468 / 59,477)" in capsys.readouterr().out
    shutil.unpack_archive(GOLDEN / "skeletons.zip", tmp_path / "raw")
    convert(DATASETS["ntu120"], [tmp_path / "raw"], tmp_path / "converted")
    imported, converted = PackedDataset(tmp_path / "imported"), PackedDataset(tmp_path / "converted")
    np.testing.assert_array_equal(imported.names, converted.names)
    np.testing.assert_array_equal(imported.label, converted.label)
    np.testing.assert_array_equal(imported.num_frame, converted.num_frame)
    np.testing.assert_allclose(imported.joints, converted.joints, atol=1e-5)
    assert imported.info["without_a_body"] == converted.info["without_a_body"]
    for protocol in ("xsub", "xsetup"):
        for side in SIDES:
            np.testing.assert_array_equal(imported.split(protocol, side), converted.split(protocol, side))


def test_exported_padding_is_that_of_the_published_implementation(tmp_path):
    golden, folder = np.load(GOLDEN / "converted.npz"), tmp_path / "xsub"
    folder.mkdir()
    for side in SIDES:
        np.save(folder / f"{side}_data_joint.npy", golden[f"xsub_{side}_data"])
        np.save(folder / f"{side}_num_frame.npy", golden[f"xsub_{side}_num_frame"])
        labels = golden[f"xsub_{side}_names"].tolist(), golden[f"xsub_{side}_labels"]
        (folder / f"{side}_label.pkl").write_bytes(pickle.dumps(labels))
    assert command(folder, tmp_path / "packed", dataset="ntu120") == 0
    exported = ["padded", "--data", str(tmp_path / "packed"), "--protocol", "xsub", "--out", str(tmp_path / "out")]
    assert export(exported) == 0
    same = 0
    for side in SIDES:
        names, labels = pickle.loads((tmp_path / "out" / f"{side}_label.pkl").read_bytes())
        data, before = np.load(tmp_path / "out" / f"{side}_data_joint.npy"), golden[f"xsub_{side}_data"]
        assert data.shape == before.shape and data.dtype == before.dtype
        order = golden[f"xsub_{side}_names"].tolist()
        assert sorted(names) == [f"{name.removesuffix('.skeleton')}.skeleton" for name in sorted(order)]
        for row, name in enumerate(names):
            old = [n.removesuffix(".skeleton") for n in order].index(name.removesuffix(".skeleton"))
            frames = golden[f"xsub_{side}_num_frame"][old]
            assert labels[row] == golden[f"xsub_{side}_labels"][old]
            np.testing.assert_array_equal(data[row, :, :frames], before[old, :, :frames])
            same += np.array_equal(data[row], before[old])
    assert same >= 8  # of 13: the others lose a person before their end, which the published converter fills otherwise


def test_labels_without_names_keep_the_folders_own_split(made, folder, tmp_path):
    names = drop_names(folder)
    assert command(folder, tmp_path / "out", protocol="xview") == 0  # whatever it is called
    packed, original = PackedDataset(tmp_path / "out"), PackedDataset(made / "demo")
    assert packed.protocols == ["xview"] and not list((tmp_path / "out").glob("xsub*"))
    assert packed.names[[0, 11, 12, 23]].tolist() == ["train_000000", "train_000011", "val_000000", "val_000011"]
    for side in SIDES:
        for row, index in enumerate(packed.split("xview", side)):
            assert packed.names[index] == f"{side}_{row:06d}"
            same = original.names.tolist().index(names[side][row].removesuffix(".skeleton"))
            np.testing.assert_array_equal(packed.recording(index), original.recording(same))
            assert packed.label[index] == original.label[same]


def test_names_without_a_suffix_and_labels_in_arrays_are_the_same(made, folder, tmp_path):
    for side in SIDES:
        edit_labels(folder, lambda n, x: (np.array([name[:20] for name in n]), np.array(x, np.int32)), side)
        np.save(folder / f"{side}_num_frame.npy", np.load(folder / f"{side}_num_frame.npy").astype(np.int16))
    assert command(folder, tmp_path / "out") == 0
    for path in (made / "demo").glob("*.npy"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda n, x: (n, [i + 1 for i in x]), "train_label.pkl: the labels count from 1, they must count from 0"),
        (lambda n, x: (n, [(i + 1) % 3 for i in x]), "its action − 1 is"),
        (lambda n, x: (n, [*x[:-1], 11]), "has label 11, its action − 1 is"),
        (lambda n, x: (n[1:], x[1:]), "train_label.pkl: holds 11 names, train_data_joint.npy 12 recordings"),
        (lambda n, x: (n[1:], x), "train_label.pkl: refused: 11 names and 12 labels"),
        (lambda n, x: ([*n[:-1], n[0]], [*x[:-1], x[0]]), "is listed twice, or in train and in val"),
        (lambda n, x: ([*n[:-1], "S002C001P003R001A001"], [*x[:-1], 0]), "belongs to val in cross_subject (xsub)"),
        (lambda n, x: ([*n[:-1], "S001C001P001R001A013"], [*x[:-1], 12]), "is no recording of simulated demo"),
        (lambda n, x: ([*n[:-1], "S018C001P001R001A001"], [*x[:-1], 0]), "is no recording of simulated demo"),
        (lambda n, x: ([*n[:-1], "../S001C001P001R001A001"], x), "is no name of 1 to 64 letters"),
        (lambda n, x: ([*n[:-1], "S٠٠١C001P001R001A001"], x), "is no name of 1 to 64 letters"),
        (lambda n, x: ([*n[:-1], "\ud800\n"], x), "is no name of 1 to 64 letters"),
        (lambda n, x: ([*n[:-1], "walking_2"], x), "walking_2: the name is not of the form"),
        (lambda n, x: x, "train_label.pkl: refused: not a pair"),
        (lambda n, x: (n, [float(i) for i in x]), "train_label.pkl: refused: label 0 is no whole number"),
        (lambda n, x: {"names": n, "labels": x}, "train_label.pkl: refused: not a pair (names, labels)"),
    ],
)
def test_labels_that_are_wrong_are_refused(change, message, folder, capsys):
    edit_labels(folder, change)
    refused(folder, message, capsys)


def test_a_folder_of_another_protocol_is_refused_by_a_recordings_name(folder, capsys):
    refused(folder, "belongs to val in cross_view (xview)", capsys, protocol="xview")
    refused(folder, "demo has no protocol 'xsetup'; it has cross_subject (xsub)", capsys, protocol="xsetup")
    for file in folder.glob("train_*"):
        file.rename(folder / file.name.replace("train", "old"))
    for file in folder.glob("val_*"):
        file.rename(folder / file.name.replace("val", "train"))
    for file in folder.glob("old_*"):
        file.rename(folder / file.name.replace("old", "val"))
    refused(folder, "train_label.pkl: 'S001C00", capsys)


def test_a_pickle_that_would_run_something_is_refused(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "val_label.pkl").write_bytes(b"cos\nsystem\n(Vtouch ran\ntR.")
    refused(folder, "val_label.pkl: refused: it asks for 'os.system'", capsys)
    assert not (folder / "ran").exists()
    np.save(folder / "train_num_frame.npy", np.array([{}] * 12), allow_pickle=True)
    refused(folder, "train_num_frame.npy: cannot be read", capsys)


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.arange(12) + 1, "train_label.npy: the labels count from 1, they must count from 0"),
        (np.arange(12) - 1, "train_label.npy: recording 0 has label -1, of 0 to 11"),
        (np.arange(12) + 2, "train_label.npy: recording 10 has label 12, of 0 to 11"),
        (np.arange(12) / 2, "train_label.npy: holds float64 (12,), expected integers (12,)"),
        (np.arange(11), "train_label.npy: holds int64 (11,), expected integers (12,)"),
        (np.zeros((12, 1), int), "train_label.npy: holds int64 (12, 1), expected integers (12,)"),
    ],
)
def test_labels_without_names_that_are_wrong_are_refused(labels, message, folder, capsys):
    drop_names(folder)
    np.save(folder / "val_label.npy", np.full(12, 1))
    np.save(folder / "train_label.npy", labels)
    refused(folder, message, capsys)


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("num_frame", lambda a: np.where(np.arange(12) == 5, 0, a), "recording 5 has 0 frames, of 1 to 12"),
        ("num_frame", lambda a: np.where(np.arange(12) == 5, 13, a), "recording 5 has 13 frames, of 1 to 12"),
        ("num_frame", lambda a: np.where(np.arange(12) == 5, -1, a), "recording 5 has -1 frames, of 1 to 12"),
        ("num_frame", lambda a: a[1:], "holds int64 (11,), expected integers (12,)"),
        ("num_frame", lambda a: a.astype(float), "holds float64 (12,), expected integers (12,)"),
        ("data_joint", lambda a: a[1:], "train_num_frame.npy: holds int64 (12,), expected integers (11,)"),
        ("data_joint", lambda a: a[:0], "train_data_joint.npy: holds no recordings"),
        ("data_joint", lambda a: a[..., :1], "xsub: train and val have other people, joints or coordinates"),
        (
            "data_joint",
            lambda a: a[:, :, :, :20],
            "holds float32 (12, 3, 12, 20, 2), expected float32 (N, 3, 300, 25, 2) for the skeleton kinect_v2",
        ),
        ("data_joint", lambda a: a.transpose(0, 2, 4, 3, 1).copy(), "holds float32 (12, 12, 2, 25, 3)"),
        ("data_joint", lambda a: a[0], "holds float32 (3, 12, 25, 2)"),
        ("data_joint", lambda a: a.astype(np.float64), "holds float64 (12, 3, 12, 25, 2)"),
    ],
)
def test_arrays_that_are_wrong_are_refused(file, change, message, folder, capsys):
    path = folder / f"train_{file}.npy"
    np.save(path, change(np.load(path)))
    refused(folder, message, capsys)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_unless_they_are_padding(value, folder, tmp_path, capsys):
    path = folder / "val_data_joint.npy"
    data, num_frame = np.load(path), np.load(folder / "val_num_frame.npy")
    row = int(num_frame.argmin())
    data[row, 2, num_frame[row] :, 24, 1] = value
    np.save(path, data)
    assert command(folder, tmp_path / "out") == 0
    capsys.readouterr()
    data[row, 2, num_frame[row] - 1, 24, 1] = value
    np.save(path, data)
    name = pickle.loads((folder / "val_label.pkl").read_bytes())[0][row].removesuffix(".skeleton")
    shutil.rmtree(tmp_path / "out")
    refused(folder, f"{path}: recording {row} ({name}) holds values that are not finite", capsys)


def test_raw_coordinates_are_refused(folder, capsys):
    path = folder / "train_data_joint.npy"
    np.save(path, np.load(path) + np.float32(0.5))
    refused(folder, "is not centred on the first person's spine_middle: say --normalise for raw recordings", capsys)


def test_files_that_are_missing_or_cut_short_are_refused(folder, capsys):
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        refused(folder, f"{file}: ", capsys)
        file.unlink()
        refused(folder, "no such file", capsys)
        file.write_bytes(content)


def test_a_folder_in_use_and_an_interruption_leave_everything_as_it_was(folder, tmp_path, capsys, monkeypatch):
    with locked(tmp_path / "out"):
        refused(folder, "another program is writing here", capsys)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_gen.formats.base.PackedWriter.add", interrupt)
    assert command(folder, tmp_path / "out") == 130
    assert os.listdir(tmp_path / "out") == [INFO]


def test_memory_does_not_grow_with_the_arrays(tmp_path):
    (tmp_path / "big").mkdir()
    for side, count in (("train", 1000), ("val", 10)):  # 180 MB, of holes
        start = {"descr": "<f4", "fortran_order": False, "shape": (count, 3, 300, 25, 2)}
        with open(tmp_path / "big" / f"{side}_data_joint.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, start)
            file.truncate(file.tell() + 4 * count * 3 * 300 * 50)
        np.save(tmp_path / "big" / f"{side}_num_frame.npy", np.full(count, 2))
        np.save(tmp_path / "big" / f"{side}_label.npy", np.zeros(count, int))
    tracemalloc.start()
    began = time.process_time()
    info = pack(read_padded(tmp_path / "big", "xsub", KINECT_V2), tmp_path / "out", Options(DATASETS["demo"], "demo"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert info["frames"] == 2020 and len(info["without_a_body"]) == 1010
    assert peak < 2**22 and time.process_time() - began < 60


def test_the_command_reports_mistakes_without_a_traceback(folder, tmp_path):
    flags = ["-m", "data_gen.import_dataset", "padded", "--dataset", "demo", "--protocol", "xsub"]
    done = run_python(*flags, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (tmp_path / "out").exists()
    missing = tmp_path / "nowhere" / "train_data_joint.npy"
    assert done.stderr == f"error: {missing}: cannot be read (no such file)\n"
    done = run_python(*flags, folder, "--out", tmp_path / "out")
    assert done.returncode == 0 and done.stdout.startswith("simulated demo: 24 recordings")

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_gen.datasets import DATASETS, ROOT
from data_gen.ntu_gendata import convert
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.packed.writer import packing
from data_gen.skeletons import KINECT_V2, NTU_LAYOUT, SKELETONS, FrameLayout
from tests.helpers import own_dataset, tiny_dataset, write_recordings
from utils.errors import UserError


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    """A folder with 24 recordings, `raw`, and what they become, `demo`."""
    return tiny_dataset(tmp_path_factory.mktemp("converted"), num_frame=(2, 6)).path.parent


@pytest.fixture
def folder(converted, tmp_path) -> Path:
    """A packed data set of 24 recordings."""
    return Path(shutil.copytree(converted / "demo", tmp_path / "demo"))


@pytest.mark.parametrize("skeleton, people, coordinates", [("coco", 1, 2), ("kinect_v1", 2, 3), ("smpl", 5, 3)])
def test_any_skeleton_is_packed_and_read_again(skeleton, people, coordinates, tmp_path):
    packed = own_dataset(tmp_path, skeleton, people, coordinates)
    assert packed.layout == FrameLayout(SKELETONS[skeleton], people, coordinates)
    assert packed.shape == packed.recording(3).shape[1:] == (people, len(SKELETONS[skeleton].joints), coordinates)
    assert packed.title == "my recordings" and packed.protocols == ["fold1", "fold2"]
    assert packed.info["protocols"]["fold1"]["rule"] == "kfold:2, val subjects s0, s2, s4"


def change_info(folder, change):
    info = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps(info | change))


def test_a_data_set_that_names_no_skeleton_is_kinect_v2s(folder):
    info = json.loads((folder / INFO).read_text())
    assert info.pop("skeleton")["parents"] == list(KINECT_V2.parents)
    (folder / INFO).write_text(json.dumps(info))
    packed = PackedDataset(folder)
    assert packed.layout == NTU_LAYOUT and packed.class_names is None


@pytest.mark.parametrize(
    "change, file",
    [
        ({"protocols": {"../../x": {}}}, INFO),
        ({"protocols": {"xset": {}}}, "xset_train.npy"),
        ({"classes": 0}, INFO),
        ({"format": 2}, INFO),
        ({"dataset": "../demo"}, INFO),
        ({"skeleton": None}, INFO),
        ({"skeleton": SKELETONS["smpl"].to_json()}, "joints.npy"),
        ({"class_names": ["a", "b"]}, INFO),
    ],
)
def test_wrong_entries_of_dataset_json_are_refused(change, file, folder):
    change_info(folder, change)
    with pytest.raises(UserError, match=f"{file}: .*convert the recordings again"):
        PackedDataset(folder)


@pytest.mark.parametrize("shape", [(1, 17, 4), (1, 18, 2), (17, 2)])
def test_frames_of_other_shapes_are_refused(shape, tmp_path):
    packed = own_dataset(tmp_path, "coco", 1, 2)
    np.save(tmp_path / "joints.npy", np.zeros((packed.num_frame.sum(), *shape), np.float32))
    with pytest.raises(UserError, match="joints.npy: "):
        PackedDataset(tmp_path)


@pytest.mark.parametrize("file", ["joints.npy", "num_frame.npy", "label.npy", "name.npy", "xsub_val.npy", INFO])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "another type"])
def test_damaged_files_are_refused_by_name(file, damage, folder):
    path = folder / file
    content = path.read_bytes()
    path.unlink()
    if damage == "another type":
        np.save(path.with_suffix(".npy"), np.zeros(24, bool))
        path.with_suffix(".npy").replace(path)
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-1])
    with pytest.raises(UserError, match=file):
        PackedDataset(folder)


@pytest.mark.parametrize(
    "file, change",
    [
        ("num_frame.npy", lambda a: [a[0] + 1, *a[1:]]),
        ("num_frame.npy", lambda a: [a[0] + a[1], 0, *a[2:]]),
        ("label.npy", lambda a: [-1, *a[1:]]),
        ("label.npy", lambda a: [12, *a[1:]]),
        ("name.npy", lambda a: ["../../etc/x", *a[1:]]),
        ("name.npy", lambda a: a[::-1]),
        ("name.npy", lambda a: [a[0], *a[:-1]]),
        ("xsub_train.npy", lambda a: [*a, a[0]]),
        ("xsub_val.npy", lambda a: [-1, *a[1:]]),
        ("xsub_val.npy", lambda a: [*a[1:], 24]),
        ("joints.npy", lambda a: np.full_like(a, np.nan)),
    ],
)
def test_contents_that_do_not_fit_are_refused(file, change, folder):
    array = np.load(folder / file)
    np.save(folder / file, np.array(change(array), array.dtype))
    with pytest.raises(UserError, match=f"{file}: .*convert the recordings again"):
        PackedDataset(folder)


def test_the_same_recordings_in_both_splits_are_refused(folder):
    (folder / "xview_val.npy").write_bytes((folder / "xview_train.npy").read_bytes())
    with pytest.raises(UserError, match="xview"):
        PackedDataset(folder)


def pack(folder, shape, people, info=None, tables=None, names="a"):
    with packing(folder, shape) as writer:
        for name in names:
            writer.add(name, 0, people)
        writer.finish({}, {"dataset": "b", "classes": 1} | (info or {}), tables)


def test_a_writer_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(UserError, match=r"\(3, 2, 25, 3\)"):
        pack(tmp_path, (1, 17, 2), np.zeros((3, 2, 25, 3)))
    with pytest.raises(UserError, match="a after b"):
        pack(tmp_path, (2, 25, 3), np.zeros((3, 2, 25, 3)), names="ba")
    assert not any(tmp_path.iterdir())
    pack(tmp_path, (2, 25, 3), np.zeros((3, 2, 25, 3)), {"class_names": ["walk"]}, {"camera": ["2"]})
    packed = PackedDataset(tmp_path)
    assert packed.class_names == ["walk"] and packed.table("camera") == ["2"] and packed.table("subject") is None
    with pytest.raises(UserError, match="'xsub'; it has none"):
        packed.split("xsub", "train")


def test_arrays_that_are_no_data_set_and_other_data_sets_are_not_replaced(folder, tmp_path):
    np.save(tmp_path / "precious.npy", np.zeros(3))
    with pytest.raises(UserError, match="--out"):
        pack(tmp_path, (2, 25, 3), np.zeros((3, 2, 25, 3)))
    with pytest.raises(UserError, match="demo"), packing(folder, name="ntu60"):
        pass
    assert len(PackedDataset(folder)) == 24 and os.listdir(tmp_path).count("precious.npy") == 1


CONVERT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from data_gen.datasets import DATASETS
from data_gen.ntu_gendata import convert
from data_gen.packed.writer import PackedWriter
if __name__ == "__main__":
{change}
    convert(DATASETS["demo"], [Path(sys.argv[2])], Path(sys.argv[3]))
"""


def conversion(folder: Path, change: str, raw: Path, out: Path) -> list:
    """The command of a conversion that is changed."""
    script = folder / "conversion.py"
    script.write_text(CONVERT.format(change="\n".join("    " + line for line in change.splitlines())))
    return [sys.executable, script, ROOT, raw, out]


@pytest.mark.parametrize("moved", [0, 1, 4, 8])
def test_killed_while_it_moves_its_files_a_conversion_leaves_no_data_set(moved, converted, folder, tmp_path):
    """Over an earlier data set, too: nothing opens that is half the old, half the new."""
    shutil.copytree(converted / "raw", tmp_path / "raw")
    (tmp_path / "raw" / "S001C001P001R001A001.skeleton").unlink()
    change = f"""replace, left = os.replace, [{moved}]
def replace_some(*paths):
    left[0] -= 1
    replace(*paths) if left[0] >= 0 else os.kill(os.getpid(), 9)
os.replace = replace_some"""
    assert subprocess.run(conversion(tmp_path, change, tmp_path / "raw", folder)).returncode == -9
    with pytest.raises(UserError, match=str(folder)):
        PackedDataset(folder)
    convert(DATASETS["demo"], [tmp_path / "raw"], folder)
    assert len(PackedDataset(folder)) == 23 and ".partial" not in os.listdir(folder)


def test_of_two_conversions_into_one_folder_one_refuses(tmp_path):
    write_recordings(tmp_path / "raw")
    change = """finish = PackedWriter.finish
def wait_and_finish(*args):
    print("writing", flush=True)
    sys.stdin.read()
    finish(*args)
PackedWriter.finish = wait_and_finish"""
    command = conversion(tmp_path, change, tmp_path / "raw", tmp_path / "out")
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "writing\n"
    with pytest.raises(UserError, match=str(tmp_path / "out")):
        convert(DATASETS["demo"], [tmp_path / "raw"], tmp_path / "out")
    first.communicate(timeout=300)
    assert first.returncode == 0 and len(PackedDataset(tmp_path / "out")) == 24

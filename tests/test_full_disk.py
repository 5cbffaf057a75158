"""Disks that fill up while a program writes: one line, nothing half-written, earlier files intact."""

import shutil
import subprocess

import pytest

from data_gen.packed.reader import PackedDataset
from models import checkpoints
from tests.helpers import own_dataset
from tests.programs import assert_refused, call
from utils.errors import UserError

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file system of 12 MB."""
    folder = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small(disk, published):
    """The small disk, with a run in demo/ and a data set in mine/; `leave(kilobytes)` fills it but for so many."""
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(published, disk / "demo")
    own_dataset(disk / "mine", "kinect_v2", 2, 3, num=6, splits=("fold=kfold:2",))

    def leave(kilobytes):
        filler = disk / "filler"
        filler.unlink(missing_ok=True)
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 1024 * kilobytes))
        return disk

    return leave


WRITERS = {
    "probe": ("action_recognition", "--pretrained", "DISK/demo", "DATA", "--epochs", 2, "--schedule"),
    "extract": ("tools.extract", "--pretrained", "DISK/demo", *CPU, "--data", "DEMO", "--out", "DISK/f.npz"),
    "convert": ("data_gen.ntu_gendata", "--dataset", "demo", "--raw", "RAW", "--workers", 1, "--out", "DISK/new"),
    "npz": ("data_gen.export_dataset", "npz", "--data", "DEMO", "--out", "DISK/new.npz"),
    "protocol": ("data_gen.add_protocol", "DISK/mine", "--split", "more=kfold:2"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_an_error_and_leaves_no_halves(small, demo_root, writer):
    disk = small(0)
    places = {"DEMO": demo_root / "demo", "RAW": demo_root / "raw"}
    args = [places.get(arg, str(arg).replace("DISK", str(disk))) for arg in WRITERS[writer]]
    at = args.index("DATA") if "DATA" in args else len(args)
    args[at : at + 1] = ["--data-root", demo_root, *CPU] if at < len(args) else []
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file() and "." in path.name}
    assert_refused(call(*args))
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not [path for path in disk.rglob("*") if ".partial" in path.name]
    for damaged, read in ((disk / "new", PackedDataset), (disk / "f.npz", open), (disk / "new.npz", open)):
        with pytest.raises((UserError, OSError)):
            read(damaged)


def test_the_last_checkpoint_before_a_full_disk_is_sound(small, demo_root):
    folder = small(8000) / "demo_run"
    run = ("--checkpoint-path", folder, "--data-root", demo_root, *CPU, "--hidden-size", 8, "--save-freq", 1)
    assert_refused(call("pretrain", *run, "--epochs", 9), ".pth.tar")
    saved = checkpoints.in_folder(folder)
    assert saved and checkpoints.load(saved[0])["epoch"] == len(saved) == len(list(folder.glob("checkpoint*")))

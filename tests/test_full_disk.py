"""Disks that fill up while a program writes: one line, nothing half-written that opens, earlier files intact."""

import shutil
import subprocess

import pytest
from data_gen.packed.info import INFO, DataSetError
from tools.utils.result_files import read_result

from data_gen.packed.reader import PackedDataset
from models import checkpoint_files, loading
from tests.helpers import own_dataset
from tests.programs import assert_refused, call

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


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(before, disk):
    """Earlier files are as they were, and each new one is whole."""
    after = contents(disk)
    assert {path: after.get(path) for path in before if path.suffix not in (".log", ".jsonl")} == {
        path: content for path, content in before.items() if path.suffix not in (".log", ".jsonl")
    }
    assert not [path for path in disk.rglob("*") if ".partial" in path.name]
    for path in after.keys() - before.keys():
        if path.suffix == ".json" and path.name != INFO:
            read_result(path)
        elif path.name.startswith("checkpoint_"):
            loading.load(path)


WRITERS = {
    "pretrain": ("pretrain", "--checkpoint-path", "DISK/demo_new", "DATA", "--hidden-size", 8, "--epochs", 2),
    "probe": ("action_recognition", "--pretrained", "DISK/demo", "DATA", "--epochs", 2, "--schedule"),
    "finetune": ("action_recognition", "--pretrained", "DISK/demo", "DATA", "--finetune", "--epochs", 1, "--schedule"),
    "retrieval": ("action_retrieval", "--pretrained", "DISK/demo", "DATA"),
    "extract": ("tools.extract", "--pretrained", "DISK/demo", *CPU, "--data", "DEMO", "--out", "DISK/f.npz"),
    "slim": ("tools.slim", "--pretrained", "DISK/demo", "--out", "DISK/slim"),
    "export": ("tools.export", "--pretrained", "DISK/demo", "--format", "torch", "--out", "DISK/exported"),
    "tsne": ("tools.figures", "tsne", "DISK/demo", "DATA"),
    "skeleton": ("tools.figures", "skeleton", "DISK/mine", "--name", "clip_00", "--out", "DISK/a.gif"),
    "efficiency": ("tools.efficiency", "--hidden-size", 8, "--json", "DISK/e.json"),
    "convert": ("data_gen.ntu_gendata", "--dataset", "demo", "--raw", "RAW", "--workers", 1, "--out", "DISK/new"),
    "padded": ("data_gen.export_dataset", "padded", "--data", "DEMO", "--out", "DISK/new"),
    "npz": ("data_gen.export_dataset", "npz", "--data", "DEMO", "--out", "DISK/new.npz"),
    "pyskl": ("data_gen.export_dataset", "pyskl", "--data", "DEMO", "--out", "DISK/new.pkl"),
    "csv": ("data_gen.export_dataset", "folder", "--as", "csv", "--data", "DEMO", "--out", "DISK/new"),
    "npy": ("data_gen.export_dataset", "folder", "--as", "npy", "--data", "DEMO", "--out", "DISK/new"),
    "protocol": ("data_gen.add_protocol", "DISK/mine", "--split", "more=kfold:2"),
    "simulate": ("data_gen.demo_gendata", "--long", 1, "--workers", 1, "--out", "DISK/raw"),
}


@pytest.mark.no_cover  # an export would take twice as long
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told_in_a_line_and_leaves_no_halves(small, demo_root, writer):
    places = {"DEMO": demo_root / "demo", "RAW": demo_root / "raw"}
    refused = 0
    for kilobytes in (0, 40) if writer in ("skeleton", "export") else (0, 4, 12, 40, 120):
        disk = small(kilobytes)
        program, *given = WRITERS[writer]
        args = []
        for arg in given:
            text = str(arg).replace("DISK", str(disk))
            args += ["--data-root", demo_root, *CPU] if arg == "DATA" else [places.get(arg, text)]
        before = contents(disk)
        ended = call(program, *args)
        assert "Traceback" not in ended.err
        if ended.status:
            refused += 1
            assert_refused(ended)
            assert "full" in ended.err or "No space left" in ended.err, ended
            check(before, disk)
            for damaged, read in ((disk / "new", PackedDataset), (disk / "f.npz", open), (disk / "new.npz", open)):
                with pytest.raises((DataSetError, OSError)):
                    read(damaged)
        else:
            break
    assert refused, "the disk was never full"


def test_a_read_only_disk_is_told_in_a_line(small, demo_root):
    disk = small(4000)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        export = ("data_gen.export_dataset", "npz", "--data", demo_root / "demo", "--out", disk / "new.npz")
        assert_refused(call(*export), f"cannot write {disk}/new.npz: [Errno 30] Read-only")
        assert_refused(
            call("action_retrieval", "--pretrained", disk / "demo", *CPU, "--data-root", demo_root), "Read-only"
        )
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


def test_the_last_checkpoint_before_a_full_disk_is_sound(small, demo_root):
    folder = small(8000) / "demo_run"
    run = ("--checkpoint-path", folder, "--data-root", demo_root, *CPU, "--hidden-size", 8, "--save-freq", 1)
    ended = call("pretrain", *run, "--epochs", 9)
    assert_refused(ended, "pth.tar: the disk is full; earlier files are intact")
    saved = checkpoint_files.in_folder(folder)
    assert saved and loading.load(saved[0])["epoch"] == len(saved) == len(list(folder.glob("checkpoint*")))

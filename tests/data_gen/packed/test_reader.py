import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_gen.datasets import DATASETS, ROOT
from data_gen.ntu_gendata import convert
from data_gen.packed import reader
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.skeletons import NTU_LAYOUT
from tests.helpers import tiny_dataset, write_recordings
from utils.errors import UserError


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    """A folder with 24 recordings, `raw`, and what they become, `demo`."""
    return tiny_dataset(tmp_path_factory.mktemp("converted"), num_frame=(2, 6)).path.parent


@pytest.fixture
def folder(converted, tmp_path) -> Path:
    """A packed data set of 24 recordings."""
    return Path(shutil.copytree(converted / "demo", tmp_path / "demo"))


def refused(folder: Path, message: str) -> None:
    """Opening is refused, with the reason, in little time and memory."""
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        PackedDataset(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24 and time.process_time() - start < 10


@pytest.mark.parametrize(
    "change, message",
    [
        ({"protocols": {"../../x": {}}}, "protocols does not map names"),
        ({"protocols": {"/etc/x": {}}}, "protocols does not map names"),
        ({"protocols": ["xsub"]}, "protocols does not map names"),
        ({"protocols": "xsub"}, "protocols does not map names"),
        ({"protocols": {"xset": {}}}, "xset_train.npy: cannot be read .no such file"),
        ({"classes": 12.0}, "classes is not a whole number from 1 to 999"),
        ({"classes": -12}, "classes is not a whole number"),
        ({"classes": 10**30}, "classes is not a whole number"),
        ({"classes": float("nan")}, "classes is not a whole number"),
        ({"classes": float("inf")}, "classes is not a whole number"),
        ({"classes": True}, "classes is not a whole number"),
        ({"classes": None}, "classes is not a whole number"),
        ({"format": "1"}, "format '1', this code reads 1"),
        ({"format": 2}, "format 2, this code reads 1; convert the recordings again"),
        ({"dataset": ["demo"]}, "it names no data set"),
        ({"dataset": "../demo"}, "it names no data set"),
        ({"title": "half of a character, \ud800"}, "surrogates not allowed"),
        ({"frame_rate": float("nan")}, "frame_rate is not a number from 0.01 to a million"),
        ({"frame_rate": 0}, "frame_rate is not a number"),
        ({"frame_rate": "30"}, "frame_rate is not a number"),
        ({"without_a_body": [1]}, "without_a_body does not list names"),
    ],
)
def test_wrong_entries_of_dataset_json_are_refused(change, message, folder):
    info = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps(info | change))
    refused(folder, message)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"[]", "it states no format"),
        (b'"format"', "it states no format"),
        (b"null", "it states no format"),
        (b"", "Expecting value"),
        (b'{"format": 1', "Expecting"),
        (b"\xff\xfe{}", "utf-8"),
        (b"[" * 10**6, "recursion"),
        (b'{"format": ' + b"1" * 10**5 + b"}", "Exceeds the limit"),
    ],
)
def test_a_dataset_json_of_another_kind_is_refused(content, message, folder):
    (folder / INFO).write_bytes(content)
    refused(folder, f"dataset.json: cannot be read .*{message}")


def test_a_huge_dataset_json_is_not_read(folder):
    os.truncate(folder / INFO, 2**40)
    refused(folder, "dataset.json: cannot be read .larger than 64 MiB")


def header(descr: str, shape: tuple, order: bool = False, version: bytes = b"\x01\x00", length: int = 118) -> bytes:
    """What a `.npy` file of this description begins with."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    size = length.to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + text.ljust(length - 1) + b"\n"


PLAIN = "cannot be read"


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("joints.npy", header("<f4", (10**12, *NTU_LAYOUT.shape)), "cannot be read"),
        ("joints.npy", header("<f4", (10**14, *NTU_LAYOUT.shape)), "cannot be read"),
        ("joints.npy", header("<f4", (10**30, *NTU_LAYOUT.shape)), PLAIN),
        ("joints.npy", header("<f4", (-1, *NTU_LAYOUT.shape)), PLAIN),
        ("joints.npy", header("<f4", (0, *NTU_LAYOUT.shape)), "joints.npy has 0"),
        ("joints.npy", header("<f4", (1, *NTU_LAYOUT.shape), order=True) + bytes(600), "not in C order"),
        ("joints.npy", header("<f4", (1,) * 99, length=600) + bytes(4), "cannot be read"),
        ("joints.npy", header("<f4", (0, *[10**15] * 9), length=600), "joints.npy"),
        ("joints.npy", header(">f4", (1, *NTU_LAYOUT.shape)) + bytes(600), "holds >f4 .* expected float32"),
        ("joints.npy", header("<f8", (1, *NTU_LAYOUT.shape)) + bytes(1200), "holds float64 .* expected float32"),
        ("joints.npy", header("<f3", (1, *NTU_LAYOUT.shape)) + bytes(450), "cannot be read"),
        ("joints.npy", header("<f4", (1, *NTU_LAYOUT.shape), version=b"\x02\x00", length=2**31 - 1)[:500], PLAIN),
        ("joints.npy", header("<f4", (1, *NTU_LAYOUT.shape), version=b"\x09\x00"), PLAIN),
        ("joints.npy", b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 63 + b"\n", PLAIN),
        ("joints.npy", b"\x93NUMPY\x01\x00\x40\x00" + b"{'descr': '<f4', 'shape': (24L,)".ljust(63) + b"\n", PLAIN),
        ("joints.npy", b"PK\x03\x04" + bytes(2000), PLAIN),
        ("joints.npy", b"", PLAIN),
        ("num_frame.npy", header("<i8", (10**6 + 1,)) + bytes(8 * 10**6 + 8), "holds 1000001 values, more than"),
        ("num_frame.npy", header("<i8", (0,)), r"label.npy: holds int64 \(24,\), expected int64 \(0,\)"),
        ("num_frame.npy", header("|O", (24,)) + bytes(192), PLAIN),
        ("name.npy", header("<U9999", (24,)) + bytes(4 * 9999 * 24), "name.npy: holds <U9999"),
        ("name.npy", header("|S6", (24,)) + bytes(144), r"holds \|S6 .* expected <U0"),
        ("name.npy", header("<U1", (24,)) + b"\xff" * 96, "name.npy: a name has other characters"),
        ("name.npy", header("<U1", (24,)) + b"\x00\x00\x11\x00" * 24, "name.npy: a name has other characters"),
        ("name.npy", header("<U0", (24,)), "name.npy: holds <U0"),
    ],
)  # fmt: skip
def test_headers_are_not_believed(file, content, message, folder):
    (folder / file).write_bytes(content)
    refused(folder, message)


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("num_frame.npy", lambda a: [2**62] * 4 + [*a[4:]], r"adds up to 184\d{17} frames"),
        ("num_frame.npy", lambda a: [2**63 - 1, -(2**63) + 1 + a[0] + a[1], *a[2:]], "adds up to"),
        ("num_frame.npy", lambda a: [a[0] + a[1], 0, *a[2:]], "each at least 1"),
        ("label.npy", lambda a: [-1, *a[1:]], "a label lies outside 0..11"),
        ("name.npy", lambda a: ["../../etc/x", *a[1:]], "'../../etc/x' is not the name of a recording"),
        ("name.npy", lambda a: ["a\\b", *a[1:]], "is not the name of a recording"),
        ("name.npy", lambda a: ["", *a[1:]], "'' is not the name"),
        ("name.npy", lambda a: ["A\nB", *a[1:]], "is not the name"),
        ("name.npy", lambda a: ["A\0B", *a[1:]], "is not the name"),
        ("name.npy", lambda a: [*a[:-1], "S\ud800"], "a name has other characters"),
        ("name.npy", lambda a: a[::-1], "the names do not ascend"),
        ("name.npy", lambda a: [a[0], *a[:-1]], "the names do not ascend"),
        ("xsub_train.npy", lambda a: [*a, a[0]], "xsub_train.npy: an index stands there twice"),
        ("xsub_val.npy", lambda a: [-1, *a[1:]], "xsub_val.npy: an index lies outside"),
    ],
)
def test_contents_that_do_not_fit_are_refused(file, change, message, folder):
    array = np.load(folder / file)
    np.save(folder / file, np.array(change(array), array.dtype))
    refused(folder, message)


def test_the_same_recordings_on_both_sides_are_refused(folder):
    (folder / "xview_val.npy").write_bytes((folder / "xview_train.npy").read_bytes())
    refused(folder, "xview has recordings on both sides")


def test_a_data_set_of_nothing_is_refused(folder):
    for file in folder.glob("*.npy"):
        np.save(file, np.load(file)[:0])
    refused(folder, "no recordings")


@pytest.mark.parametrize("file", ["joints.npy", "label.npy", "xsub_val.npy", INFO])
def test_what_is_no_regular_file_is_not_waited_for(file, folder):
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(folder / "nowhere", path), lambda path: None):
        (folder / file).unlink() if (folder / file).is_file() else None
        make(folder / file)
        refused(folder, "not a packed data set" if file == INFO else f"{file}: cannot be read .*(not a reg|no such)")
        if os.path.lexists(folder / file):
            (folder / file).rmdir() if (folder / file).is_dir() else (folder / file).unlink()


def test_a_data_set_of_ntu_120s_size_opens_in_under_a_second(tmp_path):
    """114,000 recordings, 8 million frames: 4.8 GB, of which the file system holds next to nothing."""
    recordings, frames = 114_000, 8_000_000
    num_frame = np.full(recordings, frames // recordings)
    num_frame[-1] += frames - num_frame.sum()
    arrays = {
        "num_frame": num_frame,
        "label": np.arange(recordings) % 120,
        "name": [f"S001C001P{i // 1000:03d}R001A{i % 1000:03d}" for i in range(recordings)],
    }
    for protocol in ("xsub", "xsetup"):
        arrays |= {f"{protocol}_train": np.arange(63_000), f"{protocol}_val": np.arange(63_000, recordings)}
    for stem, array in arrays.items():
        np.save(tmp_path / f"{stem}.npy", array)
    with open(tmp_path / "joints.npy", "wb") as file:
        description = {"descr": "<f4", "fortran_order": False, "shape": (frames, *NTU_LAYOUT.shape)}
        np.lib.format.write_array_header_1_0(file, description)
        file.truncate(file.tell() + 600 * frames)
    info = {"format": 1, "dataset": "ntu120", "classes": 120, "protocols": {"xsub": {}, "xsetup": {}}}
    (tmp_path / INFO).write_text(json.dumps(info))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        packed = PackedDataset(tmp_path)
        seconds.append(time.process_time() - start)
    assert packed.joints.shape == (frames, *NTU_LAYOUT.shape) and len(packed) == recordings
    assert min(seconds) < 1


@pytest.mark.parametrize("moved", [0, 1, 4, 8])
def test_killed_while_it_moves_its_files_a_conversion_leaves_no_data_set(moved, converted, folder, tmp_path):
    """Over an earlier data set, too: nothing opens that is half the old, half the new."""
    shutil.copytree(converted / "raw", tmp_path / "raw")
    (tmp_path / "raw" / "S001C001P001R001A001.skeleton").unlink()
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from data_gen.datasets import DATASETS\n"
        "from data_gen.ntu_gendata import convert\n"
        "if __name__ == '__main__':\n"
        f"    replace, left = os.replace, [{moved}]\n"
        "    def replace_some(*paths):\n"
        "        left[0] -= 1\n"
        "        replace(*paths) if left[0] >= 0 else os.kill(os.getpid(), 9)\n"
        "    os.replace = replace_some\n"
        f"    convert(DATASETS['demo'], [Path({str(tmp_path / 'raw')!r})], Path({str(folder)!r}))\n"
    )
    assert subprocess.run([sys.executable, script]).returncode == -9
    refused(folder, "not a packed data set")
    convert(DATASETS["demo"], [tmp_path / "raw"], folder)
    assert len(PackedDataset(folder)) == 23 and ".partial" not in os.listdir(folder)


def test_of_two_conversions_into_one_folder_one_refuses(tmp_path):
    write_recordings(tmp_path / "raw")
    os.mkfifo(tmp_path / "fifo")  # the first conversion waits for it, holding the folder
    script = tmp_path / "first.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from data_gen import ntu_gendata\n"
        "from data_gen.packed.writer import PackedWriter\n"
        "if __name__ == '__main__':\n"
        "    finish = PackedWriter.finish\n"
        "    def wait_and_finish(*args):\n"
        "        print('writing', flush=True)\n"
        f"        open({str(tmp_path / 'fifo')!r}).read()\n"
        "        finish(*args)\n"
        "    PackedWriter.finish = wait_and_finish\n"
        f"    sys.exit(ntu_gendata.main(['--dataset', 'demo', '--raw', {str(tmp_path / 'raw')!r}, "
        f"'--out', {str(tmp_path / 'out')!r}]))\n"
    )
    first = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "writing\n"
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for out in (tmp_path / "out", tmp_path / "link"):
        with pytest.raises(UserError, match="another program is writing here"):
            convert(DATASETS["demo"], [tmp_path / "raw"], out)
    (tmp_path / "fifo").write_text("go on")
    assert "24 recordings" in first.communicate(timeout=300)[0] and first.returncode == 0
    assert len(PackedDataset(tmp_path / "out")) == 24


@pytest.mark.parametrize("after", ["joints.npy", "num_frame.npy", "xsub_val.npy"])
def test_a_data_set_that_is_replaced_while_it_is_opened_is_not_mixed_with_its_successor(
    after, converted, folder, monkeypatch
):
    def read_array(path, *more):
        found = right(path, *more)
        if path.name == after:
            for file in (INFO, "label.npy"):
                shutil.copy(converted / "demo" / file, folder / f"{file}.new")
                os.replace(folder / f"{file}.new", folder / file)
        return found

    right = reader.map_array
    monkeypatch.setattr(reader, "map_array", map_array)
    refused(folder, "has been written anew since it was opened: start again")

"""Data sets that do not fit into memory."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from data_gen.packed.info import FORMAT_VERSION, INFO

from data_gen.datasets import DATASETS, ROOT
from data_gen.packed.reader import FRAME_SHAPE

MOST_BYTES = 40 * 2**30  # a file with a hole takes no space on the disk, but reading it takes time


def sparse_dataset(folder: Path, size: int, recordings: int = 64) -> None:
    """A packed data set of `size` bytes of zeros, of recordings of equal length."""
    folder.mkdir(parents=True)
    frames = size // (4 * int(np.prod(FRAME_SHAPE))) // recordings * recordings
    with open(folder / "joints.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (frames, *FRAME_SHAPE)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * frames * int(np.prod(FRAME_SHAPE)))
    np.save(folder / "num_frame.npy", np.full(recordings, frames // recordings))
    np.save(folder / "label.npy", np.zeros(recordings, np.int64))
    np.save(folder / "name.npy", np.array([f"{i:06d}" for i in range(recordings)]))
    sides = {"train": np.arange(recordings // 2), "val": np.arange(recordings // 2, recordings)}
    for protocol in DATASETS["demo"].protocols:
        for side, rows in sides.items():
            np.save(folder / f"{protocol.name}_{side}.npy", rows)
    counts = {
        protocol.name: {"train": recordings // 2, "val": recordings // 2} for protocol in DATASETS["demo"].protocols
    }
    info = {"format": FORMAT_VERSION, "dataset": "demo", "classes": 12, "protocols": counts}
    (folder / INFO).write_text(json.dumps(info))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="resident memory is read from /proc")
def test_a_data_set_larger_than_memory_trains_memory_mapped(tmp_path):
    total = 1024 * int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    sparse_dataset(tmp_path / "demo", min(total * 5 // 4, MOST_BYTES))
    flags = "--hidden-size 8 --batch-size 16 --epochs 1 --device cpu".split()
    command = [sys.executable, "pretrain.py", "--checkpoint-path", tmp_path / "demo_run", "--data-root", tmp_path]
    process = subprocess.Popen([*command, *flags], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    most = 0

    def watch() -> None:
        nonlocal most
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            most = max(most, *(1024 * int(kb) for kb in re.findall(r"RssAnon:\s+(\d+)", status)), 0)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.wait(timeout=1200) == 0
    watcher.join()
    # Pages of the mapped file may come and go as the system likes; what the process itself holds is small.
    assert 0 < most < 2 * 2**30

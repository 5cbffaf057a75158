"""What several processes send each other is what docs/scaling.md says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from data_gen.datasets import ROOT
from models import checkpoints
from models.umurl import PROJECTION_SIZE
from tests.helpers import make_method, tiny_dataset
from tests.runs import launched

LOOPBACK = Path("/proc/net/dev")


def traffic(hidden_size: int, batch_size: int, processes: int) -> float:
    """Bytes that all processes together send in a step, by docs/scaling.md."""
    parameters = 4 * sum(p.numel() for p in make_method(hidden_size).parameters())
    statistics = 8 * (2 * 2 * hidden_size + 1)  # of a batch norm: sums, sums of squares, rows, in float64
    reduced = parameters + 2 * 12 * statistics  # forward and backward, twelve calls
    gathered = 4 * 6 * PROJECTION_SIZE * batch_size
    return (processes - 1) * (2 * reduced + gathered)


def sent() -> int:
    return int(re.search(r"^\s*lo:((?:\s+\d+){9})", LOOPBACK.read_text(), re.MULTILINE)[1].split()[8])


def bytes_of_a_run(folder, root, processes, epochs) -> int:
    command = launched(processes, folder, root, "--epochs", str(epochs), "--batch-size", "24", "--hidden-size", "16")
    before = sent()
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    assert checkpoints.newest(folder).name == checkpoints.name_of(epochs)
    return sent() - before


@pytest.mark.slow
@pytest.mark.skipif(not LOOPBACK.exists(), reason="traffic is read from /proc/net/dev")
@pytest.mark.parametrize("processes", [2, 4])
def test_traffic_of_a_step(tmp_path, processes):
    tiny_dataset(tmp_path, subjects=(1, 2, 4, 5, 3, 6))  # 24 recordings to train on: a step an epoch
    few, many = (bytes_of_a_run(tmp_path / f"{n}" / "demo", tmp_path, processes, n) for n in (2, 12))
    assert (many - few) / 10 == pytest.approx(traffic(16, 24, processes), rel=0.1)

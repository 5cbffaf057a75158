"""Worker processes and signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_gen.datasets import ROOT
from data_gen.packed.reader import PackedDataset
from tests.helpers import write_recordings


@pytest.mark.parametrize("seconds", [0, 0.02, 0.08])
def test_ctrl_c_while_workers_start_is_told_once(tmp_path, seconds):
    write_recordings(tmp_path / "raw", subjects=range(1, 20), cameras=(1, 2, 3), num_frame=(3, 4))
    command = [sys.executable, "data_gen/ntu_gendata.py", "--dataset", "demo", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--raw", tmp_path / "raw", "--out", tmp_path / "new"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's jobs may ignore it
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and len(children.read_text().split()) < 2:  # the first one tracks resources
        time.sleep(0.001)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors, errors
    if (tmp_path / "new").exists():  # it was faster
        assert process.returncode in (0, 130, -signal.SIGINT) and PackedDataset(tmp_path / "new")
    else:
        assert (process.returncode, errors.splitlines()[-1]) == (130, "interrupted; nothing half-written is left")

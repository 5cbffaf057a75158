"""Signals at random moments in every program: it ends in a line, and every file that it leaves is whole."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_gen.packed.info import INFO
from tools.utils.result_files import read_result

from data_gen.datasets import ROOT
from data_gen.packed.reader import PackedDataset
from models import loading
from tests.data_gen.test_pku_gendata import write_part
from tests.lab import CALLS, CHECKPOINT, ONE, TRAINED
from tests.test_startup import PROGRAMS

COMMANDS = [
    *CALLS,
    ("tools.export", "--pretrained", "runs/demo", "--format", "torch", "--out", "new"),
    ("tools.benchmark", "--quick", "--device", "cpu", "--json", "new.json", "convert", "objective", "probe"),
    ("tools.figures", "tsne", "runs/demo", *TRAINED, "--out", "new.png"),
    ("tools.figures", "skeleton", ONE, "--out", "new.gif"),
    ("tools.predict", *CHECKPOINT, "--watch", "raw"),
    ("data_gen.demo_gendata", "--long", "8", "--workers", "2", "--out", "new"),
    ("data_gen.pku_gendata", "--part", "1", "--raw", "pku", "--workers", "2", "--out", "new"),
    ("data_gen.ntu_gendata", "--dataset", "demo", "--raw", "raw", "--workers", "2", "--out", "new"),
]


def file_of(program: str) -> Path:
    path = ROOT / program.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def stopped(command, seconds, number, folder):
    """Start a program in a folder, send a signal so many seconds after its imports have begun; returns exit status and
    stderr."""
    process = subprocess.Popen(
        [sys.executable, file_of(command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's jobs may ignore it
    )
    while process.poll() is None and "numpy" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.001)
    time.sleep(seconds)
    if process.poll() is None:
        # a terminal sends Ctrl-C to worker processes, too
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def assert_whole(folder):
    """Nothing is half-written: every file can be read."""
    for path in folder.rglob("*"):
        assert ".partial" not in path.name, path
        if path.name == INFO:
            PackedDataset(path.parent)
        elif path.suffix == ".json":
            read_result(path)
        elif path.name.endswith(".pth.tar"):
            loading.load_plain(path)
        elif path.suffix in (".npz", ".npy"):
            np.load(path)


def test_all_programs_are_tried():
    assert {str(file_of(program).relative_to(ROOT)) for program, *_ in COMMANDS} == set(PROGRAMS)


@pytest.mark.parametrize("times", [0, pytest.param(6, marks=pytest.mark.slow)])
def test_a_signal_at_any_moment_ends_a_program_in_one_line_and_leaves_nothing_half_written(lab, tmp_path, times):
    rng = random.Random(times)
    write_part(tmp_path / "pku")
    for command in COMMANDS * times or rng.sample(COMMANDS, 4):
        folder = tmp_path / "lab"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(lab, folder)
        (folder / "pku").symlink_to(tmp_path / "pku")
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        seconds = rng.random() * 2.5
        status, errors = stopped(command, seconds, number, folder)
        said = (command, seconds, number, status, errors)
        assert status in (0, 128 + number, -number) and "Traceback" not in errors and "Error" not in errors, said
        assert status != 130 or not errors or errors.splitlines()[-1].startswith("interrupted"), said
        assert_whole(folder)

"""What happens before a program works: arguments are read without PyTorch, and Ctrl-C ends it in one line."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_gen.datasets import ROOT
from tests.helpers import GOLDEN, run_python

PROGRAMS = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "data_gen", ROOT / "tools", *(ROOT / "tools").glob("*/"))
    for path in folder.glob("*.py")
    if '\nif __name__ == "__main__":\n' in path.read_text()
)
HELP = """
import runpy, sys
path, folder = [*sys.path], sys.argv[1]
for program in sys.argv[2:]:
    sys.argv[:] = [program, "--help"]
    sys.path[:] = path
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(folder):
            del sys.modules[name]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, program
    assert "torch" not in sys.modules, program
"""


def test_programs_run_as_files_from_any_folder_without_pytorch_before_their_arguments_are_read():
    assert len(PROGRAMS) > 20
    done = run_python("-c", HELP, f"{ROOT}/", *(ROOT / program for program in PROGRAMS), env={"PYTHONSAFEPATH": "1"})
    assert done.returncode == 0, done.stderr


def stopped(command, seconds, number):
    """Start a program, send a signal so many seconds after its imports have begun; returns exit status and stderr."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's jobs may ignore it
    )
    while process.poll() is None and "numpy" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_ctrl_c_at_any_moment_ends_in_one_line(published, demo_root, tmp_path, times):
    rng = random.Random(times)
    data = ["--data-root", demo_root]
    commands = [
        ["pretrain.py", "--checkpoint-path", tmp_path / "run" / "demo", *data, "--hidden-size", "8", "--device", "cpu"],
        ["action_retrieval.py", "--pretrained", published, *data, "--device", "cpu"],
        ["-m", "tools.extract", "--pretrained", published, "--data", demo_root / "demo", "--out", tmp_path / "f.npz"],
        ["data_gen/ntu_gendata.py", "--dataset", "demo", "--raw", GOLDEN / "skeletons.zip", "--out", tmp_path / "out"],
    ]
    for command in commands * times:
        status, errors = stopped(command, rng.random() * 2, signal.SIGINT)
        assert status in (0, 130, -signal.SIGINT) and "Traceback" not in errors and "Error" not in errors, errors


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_sigterm_at_any_moment_of_an_export_leaves_nothing(published, tmp_path, times):
    rng = random.Random(times)
    for _ in range(times):
        out = tmp_path / "out"
        command = ["-m", "tools.export", "--pretrained", published, "--format", "torch", "--out", out]
        status, errors = stopped(command, 1 + rng.random() * 4, signal.SIGTERM)
        assert status in (0, 143, -signal.SIGTERM) and "Traceback" not in errors, errors
        assert out.exists() == (status == 0) and not list(tmp_path.glob("**/.partial"))
        shutil.rmtree(out, ignore_errors=True)

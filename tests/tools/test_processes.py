import subprocess

import pytest

from tools import processes
from tools.errors import UserError


@pytest.fixture
def clean(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in [n for n in processes.os.environ if n.startswith("SLURM")]:
        monkeypatch.delenv(name)
    return monkeypatch


def setenv(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_alone(clean):
    assert processes.detect() == (0, 1, 0)


def test_torchrun(clean):
    setenv(clean, RANK=5, WORLD_SIZE=8, LOCAL_RANK=1, SLURM_STEP_NUM_TASKS=2)
    assert processes.detect() == (5, 8, 1)


def test_slurm_step(clean):
    setenv(
        clean,
        SLURM_STEP_NUM_TASKS=16,
        SLURM_PROCID=9,
        SLURM_LOCALID=1,
        SLURM_JOB_ID=123456,
        SLURM_STEP_NODELIST="gpu[03-04]",
    )
    clean.setattr(
        subprocess, "check_output", lambda command, text: "gpu03\ngpu04\n" if command[-1] == "gpu[03-04]" else None
    )
    assert processes.detect() == (9, 16, 1)
    assert processes.os.environ["MASTER_ADDR"] == "gpu03"
    assert processes.os.environ["MASTER_PORT"] == str(20000 + 123456 % 40000)


def test_slurm_batch_script_and_single_task_are_one_process(clean):
    setenv(clean, SLURM_NTASKS=8, SLURM_PROCID=0, SLURM_JOB_ID=1)
    assert processes.detect() == (0, 1, 0)


def test_evaluation_takes_one_process(clean):
    setenv(clean, RANK=0, WORLD_SIZE=2)
    with pytest.raises(UserError, match="action_retrieval.py takes one process"):
        processes.single_process("cpu", "action_retrieval.py")

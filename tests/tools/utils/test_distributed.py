import subprocess

import pytest
import torch
import torch.distributed as dist
from tools.utils import distributed
from tools.utils.errors import UserError


@pytest.fixture
def clean(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in [n for n in distributed.os.environ if n.startswith("SLURM")]:
        monkeypatch.delenv(name)
    return monkeypatch


def setenv(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_alone(clean):
    assert distributed.find_processes() == (0, 1, 0)


def test_torchrun(clean):
    setenv(clean, RANK=5, WORLD_SIZE=8, LOCAL_RANK=1, SLURM_STEP_NUM_TASKS=2)
    assert distributed.find_processes() == (5, 8, 1)


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
    assert distributed.find_processes() == (9, 16, 1)
    assert distributed.os.environ["MASTER_ADDR"] == "gpu03"
    assert distributed.os.environ["MASTER_PORT"] == str(20000 + 123456 % 40000)


def test_slurm_batch_script_and_single_task_are_one_process(clean):
    setenv(clean, SLURM_NTASKS=8, SLURM_PROCID=0, SLURM_JOB_ID=1)
    assert distributed.find_processes() == (0, 1, 0)


def test_evaluation_takes_one_process(clean):
    setenv(clean, RANK=0, WORLD_SIZE=2)
    with pytest.raises(UserError, match="action_retrieval.py takes one process"):
        distributed.single_process("cpu", "action_retrieval.py")


@pytest.fixture
def gpus(clean):
    """Have PyTorch see so many GPUs."""

    def see(count):
        clean.setattr(torch.cuda, "is_available", lambda: count > 0)
        clean.setattr(torch.cuda, "device_count", lambda: count)

    return see


def test_the_device_is_the_one_of_the_local_rank(gpus):
    gpus(0)
    assert distributed.choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="--device cuda: PyTorch sees no CUDA GPU here"):
        distributed.choose_device("cuda")
    gpus(4)
    assert distributed.choose_device("auto", 3) == distributed.choose_device("cuda", 3) == torch.device("cuda", 3)
    assert distributed.choose_device("cpu", 3) == torch.device("cpu")
    with pytest.raises(UserError, match="process 4 of this machine has no GPU of its own: there are 4"):
        distributed.choose_device("auto", 4)


def test_where_slurm_shows_each_task_its_own_gpu_that_one_is_taken(gpus, clean):
    gpus(1)
    with pytest.raises(UserError, match="process 5 of this machine has no GPU"):
        distributed.choose_device("cuda", 5)
    setenv(clean, SLURM_STEP_NUM_TASKS=16)
    assert distributed.choose_device("cuda", 5) == torch.device("cuda", 0)


def test_processes_that_see_different_folders_stop(monkeypatch):
    def gather(values, value):
        values[:] = [value, (0, 0)]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    distributed.check_equal((0, 0), "the epoch")
    with pytest.raises(UserError, match=r"differ in the epoch: \[\(3, 0\), \(0, 0\)\]; all of them must see the same"):
        distributed.check_equal((3, 0), "the epoch")


def test_a_slurm_step_on_plainly_listed_nodes(clean):
    setenv(clean, SLURM_STEP_NUM_TASKS=2, SLURM_PROCID=1, SLURM_LOCALID=0, SLURM_JOB_ID=7, SLURM_STEP_NODELIST="a1,b2")
    assert distributed.find_processes() == (1, 2, 0) and distributed.os.environ["MASTER_ADDR"] == "a1"

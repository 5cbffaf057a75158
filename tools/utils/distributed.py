"""Find processes and devices by the variables that torchrun or SLURM sets, and let processes work together."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tools.utils.errors import UserError


@dataclass(frozen=True)
class Processes:
    """This process's rank, the number of processes, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def find_processes() -> tuple[int, int, int]:
    """Return (rank, world size, local rank), as set by torchrun or a SLURM step of several tasks, else (0, 1, 0)."""
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        return _checked(_number("RANK"), _number("WORLD_SIZE"), _number("LOCAL_RANK", "0"))
    # A batch script itself has SLURM_NTASKS too; only `srun` sets the step's variables.
    if _number("SLURM_STEP_NUM_TASKS", "1") > 1:
        _need("SLURM_STEP_NODELIST")
        env["MASTER_ADDR"] = env.get("MASTER_ADDR") or _first_slurm_host()
        env.setdefault("MASTER_PORT", str(20000 + _number("SLURM_JOB_ID") % 40000))
        return _checked(_number("SLURM_PROCID"), _number("SLURM_STEP_NUM_TASKS"), _number("SLURM_LOCALID"))
    return 0, 1, 0


def _need(*names: str) -> None:
    for name in names:
        if not os.environ.get(name):
            raise UserError(f"{name} is not set, as torchrun or srun would: start with them, or unset RANK and SLURM_*")


def _number(name: str, default: str | None = None) -> int:
    if default is None:
        _need(name)
    text = os.environ.get(name, default or "")
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise UserError(f"{name}={ascii(text)}: torchrun and srun set a whole number there")
    return int(text)


def _checked(rank: int, world_size: int, local_rank: int) -> tuple[int, int, int]:
    if rank >= world_size:
        raise UserError(f"process {rank} of {world_size}: RANK or SLURM_PROCID counts from 0")
    return rank, world_size, local_rank


def _first_slurm_host() -> str:
    nodes = os.environ["SLURM_STEP_NODELIST"]
    if "[" not in nodes:
        return nodes.split(",")[0]
    try:
        return subprocess.check_output(["scontrol", "show", "hostnames", nodes], text=True).split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise UserError(f"scontrol does not name the hosts of {ascii(nodes)}: set MASTER_ADDR ({error})") from error


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Choose the device for --device: `cpu`, `cuda`, or `auto`, a GPU if there is one. Raises UserError if there is no
    GPU for `cuda`, or none left for this process."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no CUDA GPU here; use --device cpu or auto")
    if torch.cuda.device_count() == 1 and "SLURM_STEP_NUM_TASKS" in os.environ:
        return torch.device("cuda", 0)  # SLURM shows each task its own GPU alone
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; "
            "start as many processes as GPUs, or use --device cpu"
        )
    return torch.device("cuda", local_rank)


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the process group, if there are several processes (NCCL on GPUs, gloo on CPUs); leave it at the end."""
    rank, world_size, local_rank = find_processes()
    chosen = choose_device(device, local_rank)
    keep_freed_memory()
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world_size == 1:
        yield Processes(0, 1, chosen)
        return
    _need("MASTER_ADDR", "MASTER_PORT")
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world_size)
    except (ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"the processes cannot join; check MASTER_ADDR and MASTER_PORT ({why})") from error
    yield Processes(rank, world_size, chosen)
    # Not after an error: the others may be waiting for this process, and its exit ends them.
    gc.collect()  # a DDP model, part of reference cycles, would keep the group's threads until Python itself shuts down
    dist.destroy_process_group()


def check_equal(value: object, what: str) -> None:
    """Raise UserError if the processes have different values of `what`."""
    if dist.is_initialized():
        values: list[object] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
        if any(v != values[0] for v in values):
            raise UserError(f"the processes differ in {what}: {values}; all of them must see the same folders")


def distribute(model: nn.Module, procs: Processes) -> nn.Module:
    """Wrap the model so that all processes start with the main one's weights and average their gradients."""
    if procs.world_size == 1:
        return model
    device_ids = [procs.device] if procs.device.type == "cuda" else None
    # All processes compute the same running statistics, so no buffer needs a broadcast.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)  # what replaces it is newer than 2.11
        return DistributedDataParallel(model, device_ids, broadcast_buffers=False)


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum each value over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def barrier() -> None:
    """Wait until all processes have called this."""
    if dist.is_initialized():
        dist.barrier()


def single_process(device: str, program: str) -> torch.device:
    """Choose the device of a program that runs in one process. Raises UserError if there are several."""
    _, world_size, _ = find_processes()
    if world_size > 1:
        raise UserError(f"{program} takes one process (it runs in minutes): start it without torchrun or srun")
    keep_freed_memory()
    return choose_device(device)


def keep_freed_memory() -> None:
    """Make the C library keep freed memory instead of returning it to the system after every step.

    A step allocates and frees gigabytes of activations; on a CPU, fresh pages for them can take as long as the
    arithmetic. Only glibc has this setting; elsewhere nothing changes.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(m_mmap_threshold, 2**30)
    mallopt(m_trim_threshold, 2**31 - 1)

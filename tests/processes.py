"""Processes that tests start, without the seconds in which each would import PyTorch."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from tqdm import tqdm

from tests.programs import call

# They are copies of a process that has imported what the programs need.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.processes", "tools.training.report", "tools.evaluation.finetune"])
tqdm.get_lock()  # or each process would make one, which is left when it is killed


def start(count: int, module: str, *args: object) -> list[BaseProcess]:
    """Start a program in so many processes, which find each other as those of torchrun do. Their exit status is the
    program's; what it says is lost. Those that still run when the tests end are stopped."""
    port = free_port()
    tasks = [(count, port, module, args, rank) for rank in range(count)]
    processes = [FORKS.Process(target=_program, args=task, daemon=True) for task in tasks]
    for process in processes:
        process.start()
    return processes


def together(count: int, function: Callable[..., Any], *args: object) -> list[Any]:
    """Call a function in so many processes, which find each other as those of torchrun do. Returns what it returns in
    each, the one that ends first before the others; raises what it raises in any."""
    with FORKS.Pool(count) as pool:  # leaving it ends them
        results = pool.imap_unordered(partial(_as_rank, count, free_port(), function, args), range(count))
        return [results.next(timeout=120) for _ in range(count)]


def run_together(count: int, module: str, *args: object) -> str:
    """Run a program in so many processes to its good end. Returns what they print."""
    ended = together(count, call, module, *args)
    assert all(each.status == 0 for each in ended), ended
    return "".join(each.out for each in ended)


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def _as_rank(count: int, port: int, function: Callable[..., Any], args: tuple, rank: int) -> Any:
    torch.set_num_threads(1)
    if count > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()})
    return function(*args)


def _program(count: int, port: int, module: str, args: tuple, rank: int) -> None:
    sys.exit(_as_rank(count, port, call, (module, *args), rank).status)

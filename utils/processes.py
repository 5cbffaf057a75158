"""Run a program; share work among processes: workers that convert files, and the processes that torchrun starts.

PyTorch is imported by the functions that need it, so that `--help` answers at once.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from utils.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Item = TypeVar("Item")
Result = TypeVar("Result")
ASK_EVERY = 20  # steps between questions for a signal, where the answer waits for several GPUs
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


# ---- a program -------------------------------------------------------------------------------------------------------


def run(main: Callable[[], None]) -> None:
    """Run a program, and turn errors that the user can mend into one line `error: ...` on stderr, and in the log.

    Exit status: 1 after such an error, 130 after Ctrl-C, 143 after SIGTERM, once files are tidied up.
    """
    if "RANK" not in os.environ:  # a process of torchrun may wait in a collective, where no handler runs
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        main()
    except (UserError, OSError) as error:
        _fail(f"error: {error}")
    except BrokenProcessPool:
        _fail("error: a worker was killed, perhaps for lack of memory; nothing half-written is left")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        _fail(f"error: memory ran out; take smaller sizes ({str(error).splitlines()[0] if str(error) else 'memory'})")
    except KeyboardInterrupt:
        _fail("interrupted; nothing half-written is left", 130)


def _fail(text: str, status: int = 1) -> None:
    logger = logging.getLogger("umurl")
    if logger.handlers:
        logger.error(text)
    else:  # no log yet
        print(text, file=sys.stderr)
    sys.exit(status)


class StopSignal:
    """Within `with`, note SIGTERM, SIGHUP (unless nohup ignores it) and SIGINT instead of ending the program. In a
    single process, a second signal ends it."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        for number in (signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if "RANK" not in os.environ:  # the terminal and torchrun may both send one
            self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def agreed(self, procs: Processes, step: int = 0) -> bool:
        """Return whether any process has received a signal. All processes must ask at the same step; several GPUs ask
        at every 20th alone, as the answer waits for them."""
        if procs.world_size == 1:
            return self.received > 0
        if procs.device.type != "cpu" and step % ASK_EVERY:
            return False
        import torch
        import torch.distributed as dist

        number = torch.tensor(self.received, device=procs.device)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        self.received = self.received or int(number)  # a signal that came meanwhile waits for the next question
        return int(number) > 0


# ---- workers ---------------------------------------------------------------------------------------------------------


def num_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_workers(function: Callable[[Item], Result], items: list[Item], workers: int, chunk: int) -> Iterator[Result]:
    """Apply `function`, which workers can import, to each item; yield results in order. A worker takes `chunk` items.

    Only a few chunks per worker are in flight, so memory does not grow with the data set. A single chunk is computed
    in this process, sooner than a worker would start.
    """
    if len(items) <= chunk:
        yield from map(function, items)
        return
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    pending: deque = deque()
    workers = min(workers, len(chunks))
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            for some in chunks:
                pending.append(pool.submit(_map, function, some))
                if len(pending) > 4 * workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _map(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _end_with_parent() -> None:
    """Make a worker end when its parent process is killed; its queue alone would not tell it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = parent_process()
    assert parent is not None  # this is a worker

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# ---- the processes of a training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Processes:
    """This process's rank, the number of processes, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Choose the device for --device: `cpu`, `cuda`, or `auto`, a GPU if there is one. Raises UserError if there is no
    GPU for `cuda`, or none left for this process."""
    import torch

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        _keep_freed_memory()
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no CUDA GPU here; use --device cpu or auto")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; "
            "start as many processes as GPUs, or use --device cpu"
        )
    return torch.device("cuda", local_rank)


def _keep_freed_memory() -> None:
    """Have glibc keep large freed blocks instead of returning each to the system, which clears it again for the next
    tensor: features on a CPU would take 1.4 times as long."""
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the process group that torchrun describes, if there are several processes (NCCL on GPUs, gloo on CPUs);
    leave it at the end."""
    import torch
    import torch.distributed as dist

    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", 0)))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world_size == 1:
        yield Processes(0, 1, chosen)
        return
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world_size)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the processes cannot join: start them with torchrun ({str(error).splitlines()[0]})"
        ) from error
    yield Processes(rank, world_size, chosen)
    # Not after an error: the others may be waiting for this process, and its exit ends them.
    gc.collect()  # a DDP model, part of reference cycles, would keep the group's threads until Python itself shuts down
    dist.destroy_process_group()


def single_process(device: str, program: str) -> torch.device:
    """Choose the device of a program that runs in one process. Raises UserError if torchrun has started several."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(f"{program} takes one process (it runs in minutes): start it without torchrun")
    return choose_device(device)


def distribute(model: nn.Module, procs: Processes) -> nn.Module:
    """Wrap the model so that all processes start with the main one's weights and average their gradients."""
    if procs.world_size == 1:
        return model
    import warnings

    from torch.nn.parallel import DistributedDataParallel

    device_ids = [procs.device] if procs.device.type == "cuda" else None
    # All processes compute the same running statistics, so no buffer needs a broadcast.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)  # its successor is newer than 2.11
        return DistributedDataParallel(model, device_ids, broadcast_buffers=False)


def check_equal(value: object, what: str, procs: Processes) -> None:
    """Raise UserError if the processes have different values of `what`."""
    if procs.world_size > 1:
        import torch.distributed as dist

        values: list[object] = [None] * procs.world_size
        dist.all_gather_object(values, value)
        if any(v != values[0] for v in values):
            raise UserError(f"the processes differ in {what}: {values}; all of them must see the same folders")


def all_reduce_sum(values: Tensor, procs: Processes) -> Tensor:
    """Sum each value over all processes, in place."""
    if procs.world_size > 1:
        import torch.distributed as dist

        dist.all_reduce(values)
    return values


def barrier(procs: Processes) -> None:
    """Wait until all processes have called this."""
    if procs.world_size > 1:
        import torch.distributed as dist

        dist.barrier()

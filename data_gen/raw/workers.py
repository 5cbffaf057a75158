"""Worker processes for the conversions."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_workers(function: Callable[[Item], Result], items: list[Item], workers: int, chunk: int) -> Iterator[Result]:
    """Apply `function`, which workers can import, to each item; yields results in order. A worker takes `chunk` items.

    Only a few chunks per worker are in flight, so memory does not grow with the data set. A single chunk is computed
    in this process, sooner than a worker would start.
    """
    if len(items) <= chunk:
        yield from map(function, items)
        return
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    pending: deque = deque()
    workers = min(workers, len(chunks))
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=end_with_parent) as pool:
        try:
            for some in chunks:
                pending.append(submit(pool, _map, function, some))
                if len(pending) > 4 * workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def submit(pool: ProcessPoolExecutor, function: Callable[..., Result], *args: object) -> Future[Result]:
    """Submit a task, which may start a worker: with Ctrl-C blocked, or it would tell of it in a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, *args)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _map(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def end_at_ctrl_c() -> None:
    """Make a worker end at Ctrl-C, without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_with_parent() -> None:
    """Make a worker end when its parent process is killed; its queue alone would not tell it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = parent_process()
    assert parent is not None  # this is a worker

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

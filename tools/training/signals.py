"""Stop training between two steps when SIGTERM, SIGHUP or Ctrl-C arrives."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from tools.utils.distributed import Processes

ASK_EVERY = 20  # steps


class StopSignal:
    """Within `with`, note SIGTERM, SIGHUP (unless nohup ignores it) and SIGINT instead of ending the program. In a
    single process, a second signal ends it.

    Several processes may get one signal more than once (from the terminal and from torchrun), so they only note all.
    """

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
        if not dist.is_initialized():
            self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def agreed_at(self, step: int, procs: Processes) -> bool:
        """Do as `agreed`, but only after every 20th step if the question waits for several GPUs."""
        is_free = procs.world_size == 1 or procs.device.type == "cpu"
        return (is_free or step % ASK_EVERY == 0) and self.agreed(procs.device)

    def agreed(self, device: torch.device) -> bool:
        """Tell whether any process has received a signal. All processes must call this at the same step."""
        if not dist.is_initialized():
            return self.received > 0
        number = torch.tensor(self.received, device=device)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        agreed = int(number)
        self.received = self.received or agreed  # one that came meanwhile waits for the next question
        return agreed > 0

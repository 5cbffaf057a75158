"""Keep a fine-tuning command's progress in a folder of the run, so that the same command can resume after a stop."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from data_gen.packed.atomic import locked
from models.loading import CheckpointError, is_plain, load_plain
from tools.training.signals import StopSignal
from tools.utils import checkpoints
from tools.utils.distributed import Processes, all_reduce_sum, barrier, check_equal

if TYPE_CHECKING:
    from tools.training.finetune import Finetuner

SAVE_EVERY = 60.0  # seconds: runs whose validations come faster are not saved at each
STATE = "state.pth.tar"


class Stopped(Exception):
    """A signal stopped fine-tuning, and its state is saved."""


class Unfinished:
    """The folder of one command, `unfinished_TASK_...`, and what is in it: the scores of the `runs` that are done, by
    their names, the state of the one that is not, and files that wait for the result that they belong to.

    `settings` are plain values on which all that is trained depends: a command with others has another folder. Use it
    within `held`. The main process writes.
    """

    def __init__(self, folder: Path, task: str, settings: dict[str, Any], procs: Processes):
        self.digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.folder, self.procs = folder / f"unfinished_{task}_{self.digest[:8]}", procs
        self.runs: dict[str, list[list[float]]] = {}
        self.reported: list[str] = []  # what is done with, results and all
        self.state: dict[str, Any] = {}  # of the run in progress, as it was read
        self._saved = time.monotonic()

    def held(self) -> AbstractContextManager[None]:
        """Make the folder and lock it for this command. Raises DataSetError if another one has locked it."""
        return locked(self.folder) if self.procs.is_main else nullcontext()

    def read(self) -> bool:
        """Read an earlier attempt's progress. Return whether there was any. Raises CheckpointError if it is damaged."""
        path = self.folder / STATE
        if path.is_file():
            try:
                self._take(load_plain(path))
            except CheckpointError as error:
                raise CheckpointError(f"{error}: remove {self.folder} to start anew") from error
        check_equal((len(self.runs), self.state.get("epoch"), self.state.get("step")), "the state that they go on from")
        return path.is_file()

    def _take(self, state: dict[str, Any]) -> None:
        runs, reported = state.pop("runs", None), state.pop("reported", None)
        if state.pop("digest", None) != self.digest or not isinstance(runs, dict) or not is_plain([runs, reported]):
            raise CheckpointError(f"{self.folder / STATE} is not what this command left")
        self.runs, self.reported, self.state = runs, list(reported), state

    def write(self, state: dict[str, Any]) -> None:
        """Write the finished runs' scores and the `state` of the run in progress."""
        if self.procs.is_main:
            done = {"digest": self.digest, "runs": self.runs, "reported": self.reported}
            checkpoints.write(self.folder / STATE, state | done)
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._saved >= SAVE_EVERY

    def remove(self) -> None:
        """The command is complete."""
        if self.procs.is_main:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Keeper:
    """Keeps one run of a command: by its name, and where its model is to be kept, the name of that `file` and how its
    weights and the scores that they have become what is written."""

    unfinished: Unfinished
    name: str
    stop: StopSignal
    file: str = ""
    written: Callable[[dict[str, Tensor], Any, str], dict[str, Any]] | None = None

    def restore(self, tuner: Finetuner) -> None:
        """Restore this run's saved state, if any. Raises CheckpointError if it is damaged."""
        state, self.unfinished.state = self.unfinished.state, {}
        if state.pop("run", None) == self.name:
            try:
                tuner.restore(state, self.unfinished.folder / STATE)
            except CheckpointError as error:
                raise CheckpointError(f"{error}: remove {self.unfinished.folder} to start anew") from error

    def save(self, tuner: Finetuner, stopped: bool = False) -> None:
        """Save the state at a validation, unless the last save was recent, or when a signal `stopped` the run. All
        processes must call it; if `stopped`, the losses are summed over them."""
        if stopped:
            all_reduce_sum(tuner.losses)
            self.unfinished.write(tuner.state() | {"run": self.name})
            barrier()  # or torchrun, seeing one of them end, would kill the one that saves
        elif self.unfinished.procs.is_main and self.unfinished.is_due():
            self.unfinished.write(tuner.state() | {"run": self.name})

    def finish(self, tuner: Finetuner) -> None:
        """Save the model and the scores of a finished run."""
        if self.written and self.unfinished.procs.is_main:
            best = max(tuner.scores, key=lambda score: score.top1)
            for which, weights, score in (
                ("", tuner.model.state_dict(), tuner.scores[-1]),
                ("_best", tuner.best, best),
            ):
                file = f"{self.file}{which}.pth.tar"
                checkpoints.write(self.unfinished.folder / file, self.written(weights, score, file))
        self.unfinished.runs[self.name] = [list(score) for score in tuner.scores]
        self.unfinished.write({})

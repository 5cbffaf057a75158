"""Save the progress of a fine-tuning command in the run's folder, so that the same command can resume after a stop."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Save a command's progress in the folder `unfinished_TASK_...`: the scores of its finished `runs` by their names,
    the state of the run in progress, and finished models that wait for their result.

    `settings` are plain values on which all training depends: a command with others has another folder. Use it within
    `held`. Only the main process writes.
    """

    def __init__(self, folder: Path, task: str, settings: dict[str, Any], procs: Processes):
        self.digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.folder, self.procs = folder / f"unfinished_{task}_{self.digest[:8]}", procs
        self.runs: dict[str, list[list[float]]] = {}
        self.reported: list[str] = []  # modalities whose results are written
        self.state: dict[str, Any] = {}  # of the run in progress, as read
        self._saved = time.monotonic()

    def held(self) -> AbstractContextManager[None]:
        """Make the folder and lock it for this command. Raises DataSetError if another command has locked it."""
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

    def finish(self, name: str, scores: Sequence[Sequence[float]]) -> None:
        """Save the scores of a finished run."""
        self.runs[name] = [list(score) for score in scores]
        self.write({})

    def is_due(self) -> bool:
        return time.monotonic() - self._saved >= SAVE_EVERY

    def remove(self) -> None:
        """Remove the folder of a completed command."""
        if self.procs.is_main:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Keeper:
    """Save and restore the state of a command's run called `name`, which `stop` may interrupt."""

    unfinished: Unfinished
    name: str
    stop: StopSignal

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

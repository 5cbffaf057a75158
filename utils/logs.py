"""Write a run's logs: console and text, a line of JSON per epoch, TensorBoard, and the results of evaluations.

A result is a line of `results.jsonl`, appended once and never changed:

    task, modality, dataset, protocol     what was evaluated: action_recognition, all, ntu60, xsub
    checkpoint, epoch                     which checkpoint, by its name in the folder
    settings                              what the metrics depend on: encoder and data hashes, recipe, seeds
    metrics                               name → number, or {"mean", "std", "values"} over seeds
    files                                 what → name of a file beside it: predictions, model, classifier
    date                                  ISO 8601
"""

from __future__ import annotations

import io
import json
import logging
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from utils.errors import UserError
from utils.files import atomic_write, flush, lock

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

T = TypeVar("T")
RESULTS = "results.jsonl"
SAY_EVERY = 60.0  # seconds between lines about work in progress
log = logging.getLogger("umurl")


# ---- console and text ------------------------------------------------------------------------------------------------


def start_log(folder: Path, name: str, rank: int = 0) -> None:
    """Make the run's folder, and log to the console and to `folder/name.log`, uncaught exceptions too.

    Call it after the arguments are accepted: errors in them belong on stderr alone. Processes of a rank above 0 log
    only warnings. Raises UserError if another program writes this log.
    """
    for handler in log.handlers[:]:
        handler.close()
        log.removeHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    logging.raiseExceptions = False  # a log that cannot be written stops no work
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.log"
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    if rank == 0 and file.stream:
        lock(file.stream.fileno(), path)
    who = f" process {rank}:" if rank else ""
    file.setFormatter(logging.Formatter(f"%(asctime)s{who} %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(_Console())
    log.addHandler(file)

    def log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.error("".join(traceback.format_exception(kind, error, trace)).rstrip())

    sys.excepthook = log_uncaught


class _Console(logging.Handler):
    """Print lines without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout)
        sys.stdout.flush()


def progress(items: Iterable[T], **options: Any) -> tqdm:
    """Show a tqdm bar on a terminal; elsewhere log a line per minute, from the first minute on."""
    if not sys.stderr.isatty():
        line = "{desc}: {n_fmt} of {total_fmt} {unit}, {remaining} left{postfix}"
        options |= {"file": _Lines(), "mininterval": SAY_EVERY, "maxinterval": SAY_EVERY, "delay": SAY_EVERY}
        options |= {"bar_format": line, "leave": False}
    return tqdm(items, dynamic_ncols=sys.stderr.isatty(), **options)


class _Lines(io.StringIO):
    """Log what tqdm writes."""

    def write(self, text: str) -> int:
        if line := text.strip():
            log.info(line)
        return len(text)


# ---- epochs ----------------------------------------------------------------------------------------------------------


class EpochLog:
    """Write `log.jsonl` and TensorBoard's log of a pre-training run.

    Lines of an earlier attempt from `start_epoch` on are removed, so that the log of a resumed run reads like that of
    an uninterrupted one. `config` is what TensorBoard shows under HPARAMS.
    """

    def __init__(self, folder: Path, start_epoch: int, config: dict[str, Any]):
        from torch.utils.tensorboard.summary import hparams

        path = folder / "log.jsonl"
        earlier = [line for line in read_lines(path) if line.get("epoch", start_epoch) < start_epoch]
        with atomic_write(path) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in earlier))
        self._file = open(path, "a", buffering=1)
        self._board = tensorboard(folder, purge_step=start_epoch)
        values = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items()}
        for summary in hparams(values, {"loss/total": 0.0}):
            self._board._get_file_writer().add_summary(summary)

    def write(self, epoch: int, metrics: dict[str, float]) -> None:
        """Write one epoch's metrics; names with a slash group TensorBoard's charts."""
        with secondary("log.jsonl"):
            self._file.write(json.dumps({"epoch": epoch} | metrics) + "\n")
        with secondary("TensorBoard's log"):
            for name, value in metrics.items():
                self._board.add_scalar(name, value, epoch)
            self._board.flush()

    def close(self) -> None:
        self._file.close()
        with secondary("TensorBoard's log"):
            self._board.close()


def tensorboard(folder: Path, **options: Any) -> SummaryWriter:
    """Open TensorBoard's log of a run; write to it within `secondary`."""
    from torch.utils.tensorboard import SummaryWriter  # slow to load, and few programs write curves

    threading.excepthook = _warn_in_thread  # TensorBoard writes in a thread
    return SummaryWriter(str(folder), **options)


def _warn_in_thread(args: threading.ExceptHookArgs) -> None:
    if not isinstance(args.exc_value, OSError):  # the main thread reports an OSError itself
        threading.__excepthook__(args)


@contextmanager
def secondary(what: str) -> Iterator[None]:
    """Warn instead of raising OSError: an unwritable secondary output stops no work."""
    try:
        yield
    except OSError as error:
        log.warning(f"warning: {what} cannot be written: {error}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects in a file of JSON lines; none if there is no file. A line that is no object, such as one that a
    killed program left unfinished, is skipped with a warning."""
    lines = []
    for number, text in enumerate(path.read_text("utf-8", "replace").split("\n") if path.is_file() else [], 1):
        try:
            line = json.loads(text or "null")
        except (ValueError, RecursionError):
            line = text
        if isinstance(line, dict):
            lines.append(line)
        elif text.strip():
            log.warning(f"warning: {path}:{number} is no object of JSON, and is skipped")
    return lines


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(values, indent=1, default=str) + "\n", encoding="utf-8")


# ---- results ---------------------------------------------------------------------------------------------------------


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Summarise one value per seed: mean, (population) standard deviation, and the values."""
    return {"mean": statistics.fmean(values), "std": statistics.pstdev(values), "values": list(values)}


def format_summary(metric: dict[str, Any] | float, digits: int = 1) -> str:
    """Format a metric as `mean ± deviation`, or as the mean alone for one value."""
    if not isinstance(metric, dict):
        return f"{metric:.{digits}f}"
    deviation = f" ± {metric['std']:.{digits}f}" if len(metric["values"]) > 1 else ""
    return f"{metric['mean']:.{digits}f}{deviation}"


def append_result(folder: Path, result: dict[str, Any]) -> None:
    """Append a result, with the date, to the folder's `results.jsonl`."""
    path = folder / RESULTS
    line = json.dumps(result | {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}, default=str)
    with open(path, "a+b") as file:
        file.seek(max(0, file.tell() - 1))
        is_whole = file.read(1) in (b"", b"\n")  # not after a line that a killed program left unfinished
        file.write(("\n" * (not is_whole) + line + "\n").encode())
    flush(path)
    log.info(f"{result['task']}, {result['modality']}: added to {path}")


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read a run's results, oldest first. Raises UserError for a line that is none."""
    results = read_lines(folder / RESULTS)
    kinds = {"task": str, "modality": str, "dataset": str, "metrics": dict, "settings": dict}
    for number, result in enumerate(results, 1):
        for key, kind in kinds.items():
            if not isinstance(result.get(key), kind):
                raise UserError(f"{folder / RESULTS}: result {number} has no {key}; remove that line")
    return results

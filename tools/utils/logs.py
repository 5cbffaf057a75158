"""Write to the console, to log files, to TensorBoard, and to a run's JSON files."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from data_gen.packed.atomic import atomic_write, check_replaceable, lock

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

T = TypeVar("T")
SAY_EVERY = 60.0  # seconds between lines about work in progress
DRAWABLE = 1e30  # the largest number that TensorBoard and plots can show


def start_log(folder: Path, name: str, rank: int = 0) -> logging.Logger:
    """Make the run's folder, and log to the console and to `folder/name.log`, uncaught exceptions too.

    Call it after the arguments are accepted, as errors in them belong on stderr alone. Processes of a rank above 0 log
    only warnings. Raises DataSetError if another program has this log open, since it would write the same files, and
    OSError if it is no file.
    """
    logger = logging.getLogger("umurl")
    for handler in logger.handlers[:]:
        handler.close()
        logger.removeHandler(handler)
    logger.propagate = False
    logging.raiseExceptions = False  # a log that cannot be written hides no error and stops no work
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.log"
    check_replaceable(path.resolve())  # a pipe would block
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    if rank == 0 and file.stream:
        lock(file.stream.fileno(), path)
    who = f" process {rank}:" if rank else ""
    file.setFormatter(logging.Formatter(f"%(asctime)s{who} %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.addHandler(_Console())
    logger.addHandler(file)

    def log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.error("".join(traceback.format_exception(kind, error, trace)).rstrip())

    sys.excepthook = log_uncaught
    return logger


class _Console(logging.Handler):
    """Print lines without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        text, stream = self.format(record), sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        with suppress(OSError):  # the terminal is gone
            try:
                tqdm.write(text, file=stream)
            except AttributeError:  # Ctrl-C came while tqdm made its lock
                print(text, file=stream)
            sys.stdout.flush()


def progress(items: Iterable[T], **options: Any) -> tqdm:
    """Show a tqdm bar on a terminal; elsewhere log a line per minute, from the first minute on. `disable=True` shows
    nothing."""
    if not sys.stderr.isatty():
        line = "{desc}: {n_fmt} of {total_fmt} {unit}, {remaining} left{postfix}"
        options |= {"file": _Lines(), "mininterval": SAY_EVERY, "maxinterval": SAY_EVERY, "delay": SAY_EVERY}
        options |= {"bar_format": line, "leave": False}
    return tqdm(items, dynamic_ncols=sys.stderr.isatty(), **options)


class _Lines(io.StringIO):
    """Log what tqdm writes."""

    def write(self, text: str) -> int:
        if line := text.strip():
            logging.getLogger("umurl").info(line)
        return len(text)


def tensorboard(folder: Path, **options: Any) -> SummaryWriter:
    """Open TensorBoard's log of a run; write to it within `secondary`."""
    from torch.utils.tensorboard import SummaryWriter  # slow to load, and few programs write curves

    threading.excepthook = _warn_in_thread  # TensorBoard writes in a thread
    try:
        return SummaryWriter(str(folder), **options)
    except UnicodeEncodeError as error:
        raise OSError(f"{folder}: TensorBoard takes no folder whose name is not UTF-8") from error


@contextmanager
def secondary(what: str) -> Iterator[None]:
    """Warn instead of raising OSError, so that an unwritable secondary output does not stop the work."""
    try:
        yield
    except OSError as error:
        logging.getLogger("umurl").warning(f"warning: {what} cannot be written: {error}")


def _warn_in_thread(args: threading.ExceptHookArgs) -> None:
    if not isinstance(args.exc_value, OSError):
        threading.__excepthook__(args)  # the main thread tells of an OSError itself


class EpochLog:
    """Write `log.jsonl` and TensorBoard's log of a pre-training run.

    Lines of an earlier attempt from `start_epoch` on are removed, so that the log of a resumed run reads like that of
    an uninterrupted one.
    """

    def __init__(self, folder: Path, start_epoch: int, config: dict[str, Any]):
        """`config` is what TensorBoard shows under HPARAMS."""
        from torch.utils.tensorboard.summary import hparams

        path = folder / "log.jsonl"
        kept = [line for line in read_lines(path) if line["epoch"] < start_epoch]
        with atomic_write(path) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
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
        with secondary("log.jsonl"):
            self._file.close()
        with secondary("TensorBoard's log"):
            self._board.close()


def read_lines(path: Path) -> list[dict]:
    """Read the lines of a `log.jsonl` that tell of an epoch, and skip others. Return none if there is no file."""
    lines = []
    for text in path.read_text("utf-8", "replace").split("\n") if path.is_file() else []:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        numbers = {k: v for k, v in line.items() if _is_number(v)} if isinstance(line, dict) else {}
        if type(numbers.get("epoch")) is int:
            lines.append(numbers)
    return lines


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not abs(value) > DRAWABLE


def write_result(folder: Path, task: str, result: dict) -> Path:
    """Write `folder/task.json` atomically. Return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task}.json"
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(result, indent=1, default=str) + "\n")
    return path

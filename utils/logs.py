"""Write a run's logs: console and text, a line of JSON per epoch, TensorBoard."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from utils.files import atomic_write, lock, read_lines

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

T = TypeVar("T")
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

"""Where a run reports: the console, a log file, TensorBoard and one JSON line an epoch."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

T = TypeVar("T")


def start_log(folder: Path, name: str, rank: int = 0) -> logging.Logger:
    """Log to the console and to `folder/name.log`, uncaught exceptions included; ranks above 0 only warn."""
    logger = logging.getLogger("umurl")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(folder / f"{name}.log")
    who = f" process {rank}:" if rank else ""
    file.setFormatter(logging.Formatter(f"%(asctime)s{who} %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.addHandler(_Console())
    logger.addHandler(file)

    def log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.error("".join(traceback.format_exception(kind, error, trace)).rstrip())

    sys.excepthook = log_uncaught
    return logger


class _Console(logging.Handler):
    """Prints lines without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout)
        sys.stdout.flush()


def progress(items: Iterable[T], **options: Any) -> tqdm:
    """A tqdm bar on a terminal, nothing elsewhere. `disable=True` silences it anyway."""
    options["disable"] = options.get("disable", False) or not sys.stderr.isatty()
    return tqdm(items, dynamic_ncols=True, **options)


class EpochLog:
    """`log.jsonl` and TensorBoard of a pre-training run. What an earlier attempt logged from `start_epoch` on is
    taken back, so that a resumed run's log reads like an uninterrupted one."""

    def __init__(self, folder: Path, start_epoch: int):
        path = folder / "log.jsonl"
        kept = [line for line in read_lines(path) if line["epoch"] < start_epoch]
        _replace(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(path, "a", buffering=1)
        self._board = SummaryWriter(str(folder), purge_step=start_epoch)

    def write(self, epoch: int, values: dict[str, float]) -> None:
        """One epoch's figures; keys with a slash group TensorBoard's charts."""
        self._file.write(json.dumps({"epoch": epoch} | values) + "\n")
        for tag, value in values.items():
            self._board.add_scalar(tag, value, epoch)
        self._board.flush()

    def close(self) -> None:
        self._file.close()
        self._board.close()


def read_lines(path: Path) -> list[dict]:
    """The whole lines of a log; one that a crash cut short is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def write_result(folder: Path, task: str, result: dict) -> Path:
    """`folder/task.json`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task}.json"
    _replace(path, json.dumps(result, indent=1, default=str) + "\n")
    return path


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)

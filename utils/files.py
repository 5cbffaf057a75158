"""Read users' files with one kind of error; write files and folders whole or not at all; lock folders; keep results.

A result is a line of a run's `results.jsonl`, appended once and never changed:

    task, modality, dataset, protocol     what was evaluated: action_recognition, all, ntu60, xsub
    checkpoint, epoch                     which checkpoint, by its name in the folder
    settings                              what the metrics depend on: encoder and data hashes, recipe, seeds
    metrics                               name → number, or {"mean", "std", "values"} over seeds
    files                                 what → name of a file beside it: predictions, model, classifier
    date                                  ISO 8601
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError

RESULTS = "results.jsonl"
PARTIAL = ".partial"  # suffix of a file or folder that is being written, or that a killed program left

log = logging.getLogger("umurl")


# ---- read ------------------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: object, remedy: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while a user's file is read into a UserError that begins with its path.

    An error of the wrong line of a text names it, too: `path:line: reason`.
    """
    try:
        yield
    except UserError as error:
        if str(error).startswith(str(path)):
            raise
        place = path if error.line is None else f"{path}:{error.line}"
        raise UserError(f"{place}: {error.reason}{remedy}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file{remedy}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}){remedy}") from error
    except KeyError as error:
        raise UserError(f"{path}: has no entry {error}{remedy}") from error
    except Exception as error:  # a damaged file can raise nearly any error
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{path}: {reason}{remedy}") from error


def read_text(path: Path) -> str:
    """Read UTF-8 text, with or without a byte order mark. Raises UserError."""
    with reading(path):
        return path.read_text(encoding="utf-8-sig")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError."""
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


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


def read_array(path: Path, remedy: str = "") -> np.ndarray:
    """Memory-map the array in a `.npy` file; objects are refused. Raises UserError."""
    with reading(path, remedy):
        if not path.stat().st_size:
            raise UserError("the file is empty")
        return np.load(path, mmap_mode="r", allow_pickle=False)


def fingerprint(*parts: object) -> str:
    """Compute the SHA-256 of arrays (their values alone) and of other things (their text): 64 characters."""
    digest = hashlib.sha256()
    for part in parts:
        is_array = isinstance(part, np.ndarray)
        digest.update(np.ascontiguousarray(part).tobytes() if is_array else str(part).encode())
    return digest.hexdigest()


# ---- write -----------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to. If the block succeeds, that file is flushed to the disk and
    becomes `path`; otherwise it is removed, and an earlier file stays as it was.

    Only writing belongs into the block: an OSError or RuntimeError in it becomes an OSError that names `path`.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        raise OSError(_fault(path, "the disk is full" if _is_full(path.parent) else error)) from error
    finally:
        with suppress(OSError):  # a read-only disk: the error above says more
            partial.unlink()


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(values, indent=1, default=str) + "\n", encoding="utf-8")


@contextmanager
def atomic_files(folder: Path, last: str = "", outdated: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a folder inside `folder` to write files to. If the block succeeds, they move into `folder`, the file called
    `last` after all others, once the `outdated` files there are removed; otherwise they are removed themselves."""
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed program
    try:
        partial.mkdir(parents=True)
        yield partial
        for name in outdated:
            (folder / name).unlink(missing_ok=True)
        for path in sorted(partial.iterdir(), key=lambda path: (path.name == last, path.name)):
            os.replace(path, folder / path.name)
        flush(folder)
    except (OSError, RuntimeError) as error:  # or something could not be read
        if not _is_full(folder):
            raise
        raise OSError(_fault(folder, "the disk is full")) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fault(path: Path, reason: object) -> str:
    return f"cannot write {path}: {reason}; earlier files are intact"


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < 2**20


def flush(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk, so that a power cut cannot leave it
    empty."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder` for one program that writes there, at most until the process ends. Missing folders are made, and
    removed again if they stay empty. Raises UserError if another program holds the lock."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle, folder)
        yield
    finally:
        os.close(handle)
        with suppress(OSError):  # until one is not empty
            for one in made:
                one.rmdir()


def lock(handle: int, path: Path) -> None:
    """Lock an open file or folder until it is closed. Raises UserError if another process has locked it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: another program is writing here; wait for it, or stop it") from None
    except OSError:
        pass  # network file systems may be unable to lock folders


# ---- results ---------------------------------------------------------------------------------------------------------


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


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Summarise one value per seed: mean, (population) standard deviation, and the values."""
    return {"mean": statistics.fmean(values), "std": statistics.pstdev(values), "values": list(values)}


def format_summary(metric: dict[str, Any] | float, digits: int = 1) -> str:
    """Format a metric as `mean ± deviation`, or as the mean alone for one value."""
    if not isinstance(metric, dict):
        return f"{metric:.{digits}f}"
    deviation = f" ± {metric['std']:.{digits}f}" if len(metric["values"]) > 1 else ""
    return f"{metric['mean']:.{digits}f}{deviation}"

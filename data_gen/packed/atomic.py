"""Files and folders that are there whole or not at all, and the lock of those who write into a folder."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_gen.packed.info import DataSetError

PARTIAL = ".partial"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to. Where the block ends well, that file, flushed to the disk, becomes `path`;
    else it is removed."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        flush(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_files(folder: Path, last: str = "") -> Iterator[Path]:
    """Give a folder inside `folder` to write files to. Where the block ends well, they move into `folder`, the one
    called `last` at the end; else they are removed."""
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)  # what a killed program left
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in sorted(partial.iterdir(), key=lambda path: (path.name == last, path.name)):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def flush(path: Path) -> None:
    """Flush a file to the disk, so that a power cut cannot leave it empty."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for one program that writes there, at most until the process ends. Make it and those above it where
    there are none, and remove them again if they stay empty. Raises DataSetError where another program holds it."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)
        with suppress(OSError):  # one is not empty
            for one in made:
                one.rmdir()


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataSetError(f"{folder}: another program is writing here{_holder(handle)}") from None
    except OSError:
        pass  # a network's file system may not lock folders


def _holder(handle: int) -> str:
    """The process that holds a lock, where the system tells."""
    with suppress(OSError):
        inode = f":{os.fstat(handle).st_ino}"
        for words in map(str.split, Path("/proc/locks").read_text().splitlines()):
            if "FLOCK" in words and "->" not in words and words[5].endswith(inode):
                return f" (process {words[4]})"
    return ""

"""Write files and folders whole or not at all, and lock a folder while a program writes into it."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_gen.packed.info import DataSetError

PARTIAL = ".partial"  # ends the name of what is being written, or of what a killed program left


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to. If the block succeeds, that file is flushed to the disk and
    becomes `path`; otherwise it is removed, and a file that was at `path` stays as it was.

    Only writing belongs into the block: an OSError or RuntimeError in it is raised as an OSError that says in one line
    that `path` cannot be written, and why.
    """
    if not is_replaceable(path):
        raise OSError(f"cannot write {path}: it is there already, and is no regular file")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        raise OSError(_fault(path, "the disk is full" if _is_full(path.parent) else error)) from error
    finally:
        with suppress(OSError):  # as on a read-only disk, where the error above says more
            partial.unlink()


def is_replaceable(path: Path) -> bool:
    """Whether nothing or a regular file is at `path`. A file would replace a device, such as /dev/null, or a link."""
    return not os.path.lexists(path) or path.is_file() and not path.is_symlink()


@contextmanager
def atomic_files(folder: Path, last: str = "") -> Iterator[Path]:
    """Yield a folder inside `folder` to write files to. If the block succeeds, they move into `folder`, the one called
    `last` after all others; otherwise they are removed. A full disk is told in words."""
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed program
    try:
        partial.mkdir(parents=True)
        yield partial
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
    removed again if they stay empty. Raises DataSetError if another program holds the lock."""
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
    """Lock an open file or folder until it is closed. Raises DataSetError where another process has, naming it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataSetError(f"{path}: another program is writing here{_holder(handle)}") from None
    except OSError:
        pass  # network file systems may be unable to lock folders


def _holder(handle: int) -> str:
    """Name the process that holds a lock; empty where the system does not tell."""
    with suppress(OSError):
        inode = f":{os.fstat(handle).st_ino}"
        for words in map(str.split, Path("/proc/locks").read_text().splitlines()):
            if "FLOCK" in words and "->" not in words and words[5].endswith(inode):
                return f" (process {words[4]})"
    return ""

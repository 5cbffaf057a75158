"""Write files and folders whole or not at all, and lock a folder while a program writes into it."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
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
    check_replaceable(path)
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


def check_replaceable(*paths: Path) -> None:
    """Raise OSError if something is at a path that no file may replace: a folder, a device, a pipe or a link."""
    for path in paths:
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise OSError(f"cannot write {path}: it is there already, and is no regular file")


@contextmanager
def atomic_files(folder: Path, last: str = "", outdated: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a folder inside `folder` to write files to. If the block succeeds, they move into `folder`, the one called
    `last` after all others, once the `outdated` ones there are removed; otherwise they are removed themselves. A full
    disk is told in words."""
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed program
    try:
        partial.mkdir(parents=True)
        yield partial
        names = sorted((path.name for path in partial.iterdir()), key=lambda name: (name == last, name))
        check_replaceable(*(folder / name for name in (*outdated, *names)))
        for name in outdated:
            (folder / name).unlink(missing_ok=True)
        for name in names:
            os.replace(partial / name, folder / name)
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

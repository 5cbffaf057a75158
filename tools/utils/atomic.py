"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".partial"  # of a file that is being written, or that a killed program left


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to. When the block ends well, that file is flushed to the disk and
    becomes `path`; otherwise it is removed, and a file that was at `path` stays as it was.

    Only writing belongs into the block: an OSError or RuntimeError in it is raised as an OSError that says in one line
    that `path` cannot be written, and why.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
        _flush(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        reason = "the disk is full" if _is_full(path.parent) else error
        raise OSError(f"cannot write {path}: {reason}; earlier files are intact") from error
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < 2**20

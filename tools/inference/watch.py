"""Recordings that appear in a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from data_gen.raw.recordings import SUFFIX
from tools.utils.errors import UserError

INTERVAL = 1.0  # seconds between looks

State = tuple[int, int]  # bytes, and the time of the last change


def appearing(folder: Path) -> Iterator[Path]:
    """The recordings that appear in a folder from now on, at any depth, without end. Those that are there now are
    passed over, unless they change.

    A file counts once two looks in a row find it unchanged, so that one that is still being copied is waited for. One
    that changes later comes again. Raises UserError where there is no such folder, or no longer.
    """
    return _new_ones(folder, _look(folder))


def _new_ones(folder: Path, known: dict[Path, State]) -> Iterator[Path]:
    before = known
    while True:
        time.sleep(INTERVAL)
        now = _look(folder)
        for path in sorted(now):
            if now[path] == before.get(path) and now[path] != known.get(path):
                known[path] = now[path]
                yield path
        known = {path: state for path, state in known.items() if path in now}
        before = now


def _look(folder: Path) -> dict[Path, State]:
    if not folder.is_dir():
        raise UserError(f"--watch {folder}: there is no such folder")
    found = {}
    for path in folder.rglob(f"*{SUFFIX}"):
        try:
            status = path.stat()
        except OSError:  # gone again, or a link to nothing
            continue
        if not path.name.startswith("."):
            found[path] = status.st_size, status.st_mtime_ns
    return found

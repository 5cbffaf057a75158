"""Watch a folder for recordings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from data_gen.raw.recording_files import SUFFIXES
from data_gen.raw.recordings import is_recording
from tools.utils.errors import UserError

INTERVAL = 1.0  # seconds between looks

State = tuple[int, int]  # size in bytes, time of the last change in ns


def appearing(folder: Path) -> Iterator[Path]:
    """Yield the recordings that appear in a folder from now on, at any depth, endlessly; existing ones only when they
    change.

    A file is complete when two consecutive looks find it unchanged. If it changes later, it is yielded again. Raises
    UserError if the folder does not exist, or no longer exists.
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
    for path in folder.rglob("*"):
        if not is_recording(path.name, SUFFIXES):
            continue
        try:
            status = path.stat()
        except OSError:  # gone again, or a link to nothing
            continue
        found[path] = status.st_size, status.st_mtime_ns
    return found

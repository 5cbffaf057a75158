"""Share functions between the formats' writers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from data_gen.packed.reader import PackedDataset
from utils.errors import UserError
from utils.files import PARTIAL, atomic_files, atomic_write, locked
from utils.text import counted


def check_lengths(packed: PackedDataset, protocol: str, side: str, num_frame: int) -> np.ndarray:
    """Return the indices of a protocol's `train` or `val` side. Raises UserError if there are none, or if a
    recording has more than `num_frame` frames."""
    chosen = packed.split(protocol, side)
    if not len(chosen):
        raise UserError(f"{packed.path}: {protocol} has no {side} recordings to write")
    longer = chosen[packed.num_frame[chosen] > num_frame]
    if len(longer):
        longest = longer[packed.num_frame[longer].argmax()]
        raise UserError(
            f"{packed.path}: more than {num_frame} frames in {counted(len(longer), 'recording')} of {protocol} {side}, "
            f"such as {packed.names[longest]} with {packed.num_frame[longest]}: pass --frames {packed.num_frame.max()}"
        )
    return chosen


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Provide a temporary folder whose files move into `out` at the end, or none if the block fails. Raises
    UserError if `out` is not empty."""
    if out.is_dir() and any(path.name != PARTIAL for path in out.iterdir()):
        raise UserError(f"{out}: is not empty; export into a new folder")
    with locked(out):
        try:
            with atomic_files(out) as partial:
                yield partial
        finally:
            with suppress(OSError):
                out.rmdir()  # succeeds only if `out` is empty, which is after a failure


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Provide a temporary file that becomes `out` at the end, or is deleted if the block fails. Raises UserError if
    `out` exists."""
    if out.exists():
        raise UserError(f"{out}: is there already; export to a new file")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as partial:
        yield partial

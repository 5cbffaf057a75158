"""What the writers of the formats have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from data_gen.packed.atomic import PARTIAL, atomic_files, atomic_write, locked
from data_gen.packed.reader import DataSetError, PackedDataset


def check_lengths(packed: PackedDataset, protocol: str, side: str, num_frame: int) -> np.ndarray:
    """Indices of a protocol's `train` or `val`. Raises DataSetError where there are none, or one is too long."""
    chosen = packed.split(protocol, side)
    if not len(chosen):
        raise DataSetError(f"{packed.path}: {protocol} has no {side} recordings to write")
    longer = chosen[packed.num_frame[chosen] > num_frame]
    if len(longer):
        longest = longer[packed.num_frame[longer].argmax()]
        raise DataSetError(
            f"{packed.path}: {len(longer)} recordings of {protocol} {side} are longer than {num_frame} frames, such as "
            f"{packed.names[longest]} with {packed.num_frame[longest]}: pass --frames {packed.num_frame.max()}"
        )
    return chosen


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder in `out`, whose files move into `out` at the end; none does where the block fails. Raises DataSetError
    where `out` holds anything already."""
    if out.is_dir() and any(path.name != PARTIAL for path in out.iterdir()):
        raise DataSetError(f"{out}: is not empty; export into a new folder")
    with locked(out):
        try:
            with atomic_files(out) as partial:
                yield partial
        finally:
            with suppress(OSError):
                out.rmdir()  # which only goes where nothing came of it


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A file beside `out`, which becomes `out` at the end, or vanishes where the block fails. Raises DataSetError where
    `out` is there already."""
    if out.exists():
        raise DataSetError(f"{out}: is there already; export to a new file")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as partial:
        yield partial

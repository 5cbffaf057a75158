"""Share functions between the formats' writers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from data_gen.packed.reader import PackedDataset
from utils.errors import UserError
from utils.files import PARTIAL, atomic_files, atomic_write, locked
from utils.text import counted


def check_lengths(packed: PackedDataset, protocol: str, split: str, num_frame: int) -> np.ndarray:
    """Return the indices of a protocol's `train` or `val` split. Refuse recordings of more than `num_frame` frames."""
    indices = packed.split(protocol, split)
    if not len(indices):
        raise UserError(f"{packed.path}: {protocol} has no {split} recordings to write")
    longer = indices[packed.num_frame[indices] > num_frame]
    if len(longer):
        raise UserError(
            f"{packed.path}: {counted(len(longer), 'recording')} of {protocol} {split} have more than {num_frame} "
            f"frames; pass --frames {packed.num_frame.max()}"
        )
    return indices


def write_rows(file: IO[bytes], shape: tuple[int, ...], rows: Iterable[np.ndarray]) -> None:
    """Write a float32 array of this shape in the `.npy` format, row by row."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for row in rows:
        file.write(np.ascontiguousarray(row, "<f4").data)


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Provide a temporary folder whose files move into the folder `out` at the end, or none if the block fails."""
    if out.is_dir() and any(path.name != PARTIAL for path in out.iterdir()):
        raise UserError(f"{out}: is not empty; export into a new folder")
    with locked(out), atomic_files(out) as partial:
        yield partial


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Provide a temporary file that becomes `out` at the end, or is deleted if the block fails."""
    if out.exists():
        raise UserError(f"{out}: exists already; export to a new file")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as partial:
        yield partial

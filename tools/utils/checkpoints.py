"""Write checkpoints, find the one to go on from, and check what one was trained on.

models/loading.py says what a checkpoint holds, and reads it.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_gen.packed.atomic import PARTIAL, atomic_write
from feeder.layout import FrameLayout
from models.checkpoint_files import CheckpointError, in_folder, name_of, progress_of
from models.loading import DDP_PREFIX, load, load_plain
from tools.utils.errors import UserError

log = logging.getLogger("umurl")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": np.__version__}


def save(folder: Path, state: dict[str, Any], keep: int | None = None) -> Path:
    """Write a checkpoint into a run's folder. Return its path.

    Then remove checkpoints from within an epoch, partial files of a killed run, and with `keep` all but the newest
    `keep` checkpoints. Raises OSError if it cannot be written; earlier checkpoints then stay.
    """
    path = folder / name_of(state["epoch"], state.get("step", 0))
    write(path, state)
    _remove_replaced(folder, path, keep)
    return path


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a dict of tensors and plain values atomically. Raises OSError if it cannot be written."""
    with atomic_write(path) as partial, open(partial, "wb") as file:
        torch.save(state, file)


def _remove_replaced(folder: Path, path: Path, keep: int | None) -> None:
    older = in_folder(folder)
    older = older[older.index(path) + 1 :]
    midway = [p for p in older if _is_midway(p)]
    whole = [p for p in older if p not in midway]
    surplus = whole[max(0, keep - (not _is_midway(path))) :] if keep else []
    for replaced in [*midway, *surplus, *folder.glob(f"checkpoint_*{PARTIAL}")]:
        replaced.unlink(missing_ok=True)


def _is_midway(path: Path) -> bool:
    progress = progress_of(path)
    return progress is not None and progress[1] > 0


def read_plain(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read a file that `write` wrote onto the CPU. Raises UserError, which says `what` it should be and the remedy."""
    if not path.is_file():
        raise UserError(f"no {what} at {path}: {remedy}")
    try:
        return load_plain(path)
    except CheckpointError as error:
        raise UserError(f"{error}: {remedy}") from error


def prefixed(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's state dict, its keys prefixed by `module.` as in published checkpoints."""
    return {DDP_PREFIX + key: value for key, value in model.state_dict().items()}


def newest_readable(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Load the newest readable checkpoint of a run, and warn of newer ones. Return None if the folder has none. Raises
    CheckpointError if none can be read."""
    paths = in_folder(folder)
    for path in paths:
        try:
            return path, load(path)
        except CheckpointError as error:
            log.warning(f"warning: {error}; trying the one before")
    if paths:
        raise CheckpointError(f"no checkpoint in {folder} can be read; --resume none starts anew and removes them")
    return None


def check_layout(layout: FrameLayout, path: Path, data: FrameLayout, place: object) -> None:
    """Raise UserError if the frames of the data at `place` differ from the `layout` that the checkpoint at `path` was
    trained on."""
    if layout != data:
        differing = ", defined in another way" if str(layout) == str(data) else ""
        raise UserError(
            f"{path} was trained on {layout}; {place} holds {data}{differing}: choose data of the same kind"
        )

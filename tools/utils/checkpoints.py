"""Checkpoints, written whole or not at all (models/loading.py says what they hold, and reads them)."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from feeder.layout import FrameLayout
from models.loading import DDP_PREFIX, UNTRAINED, CheckpointError, in_folder, load, progress_of
from tools.utils.errors import UserError

log = logging.getLogger("umurl")


def versions() -> dict[str, str]:
    return {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": np.__version__}


def name_of(epochs_done: int, steps_done: int = 0) -> str:
    """File name after `epochs_done` epochs: the index of the last of them, counted from 0. Or, with steps of a
    further epoch, the index of that one."""
    if steps_done:
        return f"checkpoint_{epochs_done:04d}_step_{steps_done:06d}.pth.tar"
    return f"checkpoint_{epochs_done - 1:04d}.pth.tar" if epochs_done else UNTRAINED


def save(folder: Path, state: dict[str, Any], keep: int | None = None) -> Path:
    """Write a checkpoint of all that models/loading.py lists, so that it is there whole or not at all.

    Then remove the run's checkpoints that it replaces: those written midway through an epoch, and of the others
    all but the newest `keep`. Raises UserError where it cannot be written; earlier ones stay as they are.
    """
    path = folder / name_of(state["epoch"], state.get("step", 0))
    write(path, state)
    _remove_replaced(folder, path, keep)
    return path


def write(path: Path, state: dict[str, Any]) -> None:
    """A file that is there whole or not at all. Raises UserError where it cannot be written."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError, in words of its own
        reason = "the disk is full" if shutil.disk_usage(path.parent).free < 2**20 else error
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {reason}; earlier files are intact") from error


def _remove_replaced(folder: Path, path: Path, keep: int | None) -> None:
    older = in_folder(folder)
    older = older[older.index(path) + 1 :]
    midway = [p for p in older if _is_midway(p)]
    whole = [p for p in older if p not in midway]
    surplus = whole[max(0, keep - (not _is_midway(path))) :] if keep else []
    for replaced in midway + surplus:
        replaced.unlink()


def _is_midway(path: Path) -> bool:
    progress = progress_of(path)
    return progress is not None and progress[1] > 0


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def prefixed(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with the `module.` that published checkpoints have."""
    return {DDP_PREFIX + key: value for key, value in model.state_dict().items()}


def newest_readable(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read; those that cannot are reported by name. None in a folder without
    any; raises CheckpointError where none of them can be read."""
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
    """Raises UserError where a checkpoint at `path` was trained on other bodies than the data at `place` holds."""
    if layout != data:
        differing = ", defined in another way" if str(layout) == str(data) else ""
        raise UserError(
            f"{path} was trained on {layout}; {place} holds {data}{differing}: choose data of the same kind"
        )

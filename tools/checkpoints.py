"""Checkpoints: the published layout and what it takes to resume from one and to know what it is.

    epoch, state_dict (keys begin with `module.`), optimizer          as published
    scaler, args, dataset, protocol, recordings, versions             ours
    step, meter                                                       where a signal stopped an epoch midway

Nothing in a checkpoint is executed: they are loaded with `weights_only=True`.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from feeder.modalities import MODALITIES
from models.encoder import Backbone
from tools.errors import UserError

log = logging.getLogger("umurl")
PREFIX = "module."
UNTRAINED = "checkpoint_untrained.pth.tar"
_NAME = re.compile(r"checkpoint_(\d+)(?:_step_(\d+))?\.pth\.tar")


class CheckpointError(UserError):
    """A checkpoint that is missing, unreadable or of another model."""


def versions() -> dict[str, str]:
    return {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": np.__version__}


def name_of(epochs_done: int, steps_done: int = 0) -> str:
    """File name after `epochs_done` epochs: the index of the last of them, counted from 0. Or, with steps of a
    further epoch, the index of that one."""
    if steps_done:
        return f"checkpoint_{epochs_done:04d}_step_{steps_done:06d}.pth.tar"
    return f"checkpoint_{epochs_done - 1:04d}.pth.tar" if epochs_done else UNTRAINED


def save(folder: Path, state: dict[str, Any], keep: int | None = None) -> Path:
    """Write a checkpoint of all that is listed above, so that it is there whole or not at all.

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
    progress = _progress(path)
    return progress is not None and progress[1] > 0


def _progress(path: Path) -> tuple[int, int] | None:
    """(epochs, steps of a further one) done, by a checkpoint's name; None for another file."""
    if path.name == UNTRAINED:
        return 0, 0
    match = _NAME.fullmatch(path.name)
    if not match:
        return None
    epoch, step = int(match[1]), int(match[2] or 0)
    return (epoch, step) if step else (epoch + 1, 0)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises CheckpointError if it is missing, damaged or something else."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise CheckpointError(f"{path} is not a checkpoint as PyTorch writes them: it is compressed")
                damaged = archive.testzip()  # checksums of every tensor
                if damaged:
                    raise CheckpointError(f"{path} is damaged (checksum of {damaged})")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is no checkpoint, a damaged one, or holds more than tensors and plain values"
        ) from error
    except Exception as error:  # torch and zipfile raise many kinds for damaged files
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(state, dict) or not isinstance(state.get("state_dict"), dict):
        raise CheckpointError(f"{path} is not a checkpoint: it has no state_dict")
    tensors = [v for v in state["state_dict"].values() if isinstance(v, torch.Tensor)]
    if sum(v.numel() * v.element_size() for v in tensors) > path.stat().st_size:
        raise CheckpointError(f"{path} claims more weights than it holds")  # one value, repeated without end
    for key, kind in (("epoch", int), ("args", dict), ("recordings", int), ("step", int), ("meter", dict)):
        if key in state and not isinstance(state[key], kind):
            raise CheckpointError(f"{path} is not a checkpoint of this kind: its {key!r} is {state[key]!r}")
    return state


def prefixed(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with the `module.` that published checkpoints have."""
    return {PREFIX + key: value for key, value in model.state_dict().items()}


def weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict without the `module.` that published checkpoints have."""
    return {key.removeprefix(PREFIX): value for key, value in state["state_dict"].items()}


def modalities(state: dict[str, Any]) -> tuple[str, ...]:
    """The modalities that a checkpoint's encoder was pre-trained on: all, unless it says so. Raises CheckpointError."""
    trained = state.get("args", {}).get("pretrain_modalities", MODALITIES)
    if not isinstance(trained, list | tuple) or not trained or not set(trained) <= set(MODALITIES):
        raise CheckpointError(f"not a checkpoint of this model: its modalities are {trained!r}")
    return tuple(m for m in MODALITIES if m in trained)


def in_folder(folder: Path) -> list[Path]:
    """Checkpoints of a run, newest first; the untrained one last."""
    found = {path: done for path in folder.glob("checkpoint_*.pth.tar") if (done := _progress(path))}
    return sorted(found, key=found.__getitem__, reverse=True)


def newest(path: Path) -> Path:
    """The checkpoint itself, or the last one of a run's folder. Raises CheckpointError if there is none."""
    if not path.is_dir():
        return path
    paths = in_folder(path)
    if not paths:
        raise CheckpointError(f"no checkpoint in {path}; run script_pretrain.sh first")
    return paths[0]


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


def load_backbone(state: dict[str, Any], path: Path) -> Backbone:
    """The encoder of a checkpoint, of whatever hidden size, in evaluation mode.

    Raises CheckpointError naming what is missing, left over or of the wrong shape.
    """
    own = {k.removeprefix("backbone."): v for k, v in weights(state).items() if k.startswith("backbone.")}
    first = own.get("j_emb.t_embedding.0.weight")
    if not isinstance(first, torch.Tensor) or first.dim() != 2:
        raise CheckpointError(f"{path} holds no encoder of this model (no backbone.j_emb.t_embedding.0.weight)")
    try:
        backbone = Backbone(first.shape[0])
        backbone.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is of another model: {error}") from error
    if not all(v.isfinite().all() for v in own.values()):
        raise CheckpointError(f"{path} holds weights that are not finite")
    return backbone.eval()

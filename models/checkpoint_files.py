"""The files of a run's checkpoints: their names, and the newest one. No PyTorch is needed for it."""

from __future__ import annotations

import re
from pathlib import Path

UNTRAINED = "checkpoint_untrained.pth.tar"
WEIGHTS_SUFFIX = ".safetensors"
WEIGHTS_FILE = f"encoder{WEIGHTS_SUFFIX}"  # slim weights, as tools.slim makes them
_NAME = re.compile(r"checkpoint_(\d+)(?:_step_(\d+))?\.pth\.tar")


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable or of another model."""


def name_of(epochs_done: int, steps_done: int = 0) -> str:
    """The file name of a checkpoint after `epochs_done` epochs: it holds the index of the last one, counted from 0.
    With `steps_done` of a further epoch, it holds that epoch's index."""
    if steps_done:
        return f"checkpoint_{epochs_done:04d}_step_{steps_done:06d}.pth.tar"
    return f"checkpoint_{epochs_done - 1:04d}.pth.tar" if epochs_done else UNTRAINED


def progress_of(path: Path) -> tuple[int, int] | None:
    """(epochs, steps of a further one) done, by a checkpoint's name; None for another file."""
    if path.name == UNTRAINED:
        return 0, 0
    match = _NAME.fullmatch(path.name)
    if not match:
        return None
    epoch, step = int(match[1]), int(match[2] or 0)
    return (epoch, step) if step else (epoch + 1, 0)


def stem_of(path: Path) -> str:
    """The name of a checkpoint's file or of slim weights, without what says its kind."""
    return path.name.removesuffix(".pth.tar").removesuffix(WEIGHTS_SUFFIX)


def in_folder(folder: Path) -> list[Path]:
    """Checkpoints of a run, newest first; the untrained one last."""
    found = {path: done for path in folder.glob("checkpoint_*.pth.tar") if (done := progress_of(path))}
    return sorted(found, key=found.__getitem__, reverse=True)


def newest(path: Path) -> Path:
    """The checkpoint itself, or the last one of a run's folder, or slim weights of a folder without any. Raises
    CheckpointError if there is none."""
    if not path.is_dir():
        return path
    paths = in_folder(path) or [slim for slim in [path / WEIGHTS_FILE] if slim.is_file()]
    if not paths:
        raise CheckpointError(f"no checkpoint in {path}; run script_pretrain.sh first")
    return paths[0]

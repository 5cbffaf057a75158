"""Name a run's checkpoints, and find the newest one, without PyTorch."""

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
    """Return the file name of a checkpoint after `epochs_done` epochs and `steps_done` steps of the next one. It holds
    the index of the last epoch, counted from 0: with `steps_done`, of the one begun."""
    if steps_done:
        return f"checkpoint_{epochs_done:04d}_step_{steps_done:06d}.pth.tar"
    return f"checkpoint_{epochs_done - 1:04d}.pth.tar" if epochs_done else UNTRAINED


def progress_of(path: Path) -> tuple[int, int] | None:
    """Return the epochs done and the steps of the next one, by a checkpoint's name; None for another file."""
    if path.name == UNTRAINED:
        return 0, 0
    match = _NAME.fullmatch(path.name)
    if not match:
        return None
    epoch, step = int(match[1]), int(match[2] or 0)
    return (epoch, step) if step else (epoch + 1, 0)


def stem_of(path: Path) -> str:
    """Return the file name of a checkpoint or of slim weights without its ending."""
    return path.name.removesuffix(".pth.tar").removesuffix(WEIGHTS_SUFFIX)


def in_folder(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first; the untrained one last."""
    found = {path: done for path in folder.glob("checkpoint_*.pth.tar") if (done := progress_of(path))}
    return sorted(found, key=found.__getitem__, reverse=True)


def newest(path: Path) -> Path:
    """Return a file's own path; for a folder, the path of its newest checkpoint or else of its slim weights. Raises
    CheckpointError if there is none."""
    if not path.is_dir():
        return path
    paths = in_folder(path) or [slim for slim in [path / WEIGHTS_FILE] if slim.is_file()]
    if not paths:
        raise CheckpointError(f"no checkpoint in {path}; run script_pretrain.sh first")
    return paths[0]

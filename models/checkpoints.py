"""Checkpoints: their names in a run's folder, what they hold, reading and writing. No code in one is executed.

    epoch, step                            epochs done, and steps of the next one if a signal stopped it
    state_dict, optimizer, scaler, meter   the method's state
    encoder                                name in ENCODERS, hidden_size, modalities, layout
    args                                   every argument of pre-training
    dataset, protocol, recordings, data    training data; `data` is the hash of its recordings
    centred, view, versions                whether people are centred; the augmentations; packages
    classifier, finetuned                  of a fine-tuned encoder: its Linear; its training

Published and older files have other keys: `models/published.py` adapts them. PyTorch is imported when it is needed.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.datasets import ROOT
from data_gen.skeletons import FrameLayout
from feeder.modalities import in_order
from models import ENCODERS
from utils.errors import UserError
from utils.files import PARTIAL, atomic_write, fingerprint, reading
from utils.text import nearest_first

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.encoder import Encoder

RUNS = ROOT / "checkpoints"
UNTRAINED = "checkpoint_untrained.pth.tar"
WEIGHTS_FILE = "encoder.safetensors"  # weights as tools.export writes them
CARD = "card"  # the entry in their header that holds the rest of the checkpoint
CLASSIFIER = "classifier"
_NAME = re.compile(r"checkpoint_(\d+)(?:_step_(\d+))?\.pth\.tar")
log = logging.getLogger("umurl")


# ---- names -----------------------------------------------------------------------------------------------------------


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


def in_folder(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first; the untrained one last."""
    paths = {path: done for path in folder.glob("checkpoint_*.pth.tar") if (done := progress_of(path))}
    return sorted(paths, key=paths.__getitem__, reverse=True)


def newest(place: Path) -> Path:
    """Return a file's own path; for a folder, the path of its newest checkpoint or else of its exported weights. Raises
    UserError if there is none."""
    if not place.is_dir():
        return place
    paths = in_folder(place) or [path for path in [place / WEIGHTS_FILE] if path.is_file()]
    if not paths:
        raise UserError(f"{place}: no checkpoint; run ./script_pretrain.sh first")
    return paths[0]


def find_run(text: str | Path) -> Path:
    """Return the path of a checkpoint or a run's folder, given as a path or as a name under checkpoints/. Raises
    UserError if it does not exist."""
    for path in (Path(text), RUNS / text):
        if path.exists():
            return path
    runs = nearest_first(Path(text).name, [path.name for path in RUNS.glob("*") if in_folder(path)])
    raise UserError(f"{text}: no such checkpoint or run; in {RUNS} there are: {runs or 'none'}")


# ---- reading ---------------------------------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, or weights written by tools.export, onto the CPU, in today's layout. Raises UserError."""
    with reading(path):
        state = _load_safetensors(path) if path.suffix == ".safetensors" else load_tensors(path)
        if not isinstance(state.get("state_dict"), dict):
            raise UserError("not a checkpoint: it has no state_dict")
        if not isinstance(state.get("encoder"), dict):
            from models.published import adapt

            state = adapt(state)
        return state


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a dict of tensors and plain values that `torch.save` wrote. Raises UserError."""
    import torch

    with reading(path):
        if path.stat().st_size and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():  # PyTorch compares no checksums
                    raise UserError(f"damaged (checksum of {damaged})")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise UserError("not a checkpoint: it holds no dict")
        return state


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError:
        raise UserError("needs the package safetensors: pip install safetensors") from None
    with safe_open(path, framework="pt", device="cpu") as file:
        state = json.loads((file.metadata() or {}).get(CARD, "{}"))
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # `file` is no dict
    if CLASSIFIER in state:
        own = [key for key in tensors if key.startswith(f"{CLASSIFIER}.")]
        state[CLASSIFIER] |= {key.removeprefix(f"{CLASSIFIER}."): tensors.pop(key) for key in own}
    return state | {"state_dict": tensors}


def load_newest(place: Path) -> tuple[Path, dict[str, Any]]:
    """Read a checkpoint, or the newest one of a folder, and return its path, too. Another checkpoint may replace it
    meanwhile, as pre-training goes on."""
    path = newest(place)
    while True:
        try:
            return path, load(path)
        except UserError:
            before, path = path, newest(place)
            if path == before:
                raise


def newest_readable(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Load the newest readable checkpoint of a run, and warn of newer ones. Return None if the folder has none. Raises
    UserError if none can be read."""
    paths = in_folder(folder)
    for path in paths:
        try:
            return path, load(path)
        except UserError as error:
            log.warning(f"warning: {error}; trying the one before")
    if paths:
        raise UserError(
            f"{folder}: no checkpoint can be read; --resume none starts from the beginning and removes them"
        )
    return None


def load_encoder_of(state: dict[str, Any], path: Path) -> Encoder:
    """Make the encoder that a checkpoint holds, in evaluation mode. Raises UserError, naming the tensors, if some are
    missing, unexpected, of the wrong shape or not finite."""
    with reading(path):
        spec = state["encoder"]
        if spec["name"] not in ENCODERS:
            raise UserError(f"holds the encoder {spec['name']!r}; ENCODERS has {', '.join(ENCODERS)}")
        layout = FrameLayout.from_json(spec["layout"])
        encoder = ENCODERS[spec["name"]](spec["hidden_size"], in_order(spec["modalities"]), layout)
        prefix = "encoder."
        weights = {k.removeprefix(prefix): v for k, v in state["state_dict"].items() if k.startswith(prefix)}
        load_weights(encoder, weights)
        return encoder.eval()


def load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a state dict, strictly. Raises UserError if it does not fit or holds values that are not finite."""
    if broken := [key for key, value in weights.items() if not value.isfinite().all()]:
        raise UserError(f"holds weights that are not finite ({broken[0]})")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:]) or str(error)
        raise UserError(f"is of another model: {' '.join(reason.split())[:300]}") from error


def weights_hash(module: nn.Module) -> str:
    """Compute the SHA-256 of a module's weights."""
    return hash_of(module.state_dict())


def hash_of(weights: dict[str, Tensor]) -> str:
    """Compute the SHA-256 of a state dict; equal for equal weights on any device."""
    parts: list[object] = []
    for key, value in sorted(weights.items()):
        parts += [f"{key} {tuple(value.shape)} {value.dtype}\n", value.detach().cpu().numpy()]
    return fingerprint(*parts)


# ---- writing ---------------------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    import numpy
    import torch

    return {"python": sys.version.split()[0], "torch": str(torch.__version__), "numpy": numpy.__version__}


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a dict of tensors and plain values, whole or not at all."""
    import torch

    with atomic_write(path) as partial, open(partial, "wb") as file:
        torch.save(state, file)


def save(folder: Path, state: dict[str, Any], keep: int | None = None) -> Path:
    """Write a checkpoint into a run's folder. Return its path.

    Then remove checkpoints from within an epoch, partial files of a killed run, and with `keep` all but the newest
    `keep` checkpoints.
    """
    path = folder / name_of(state["epoch"], state.get("step", 0))
    write(path, state)
    older = in_folder(folder)
    older = older[older.index(path) + 1 :]
    within_an_epoch = [p for p in older if _steps(p)]
    whole = [p for p in older if p not in within_an_epoch]
    surplus = whole[max(0, keep - (not _steps(path))) :] if keep else []
    for replaced in [*within_an_epoch, *surplus, *folder.glob(f"checkpoint_*{PARTIAL}")]:
        replaced.unlink(missing_ok=True)
    return path


def _steps(path: Path) -> int:
    return (progress_of(path) or (0, 0))[1]

"""Read encoders: checkpoints of this project, published checkpoints, and weights written by tools.slim.

    epoch, state_dict (keys begin with `module.`), optimizer          as published
    scaler, args, dataset, protocol, recordings, versions             ours
    body, view                                                        skeleton, people, coordinates; the augmentations
    centred                                                           whether people are centred, as by conversion
    data                                                              hash of the training recordings
    step, meter                                                       progress within an epoch, if a signal stopped it
    classifier, finetuned                                             if fine-tuned: its Linear; its training

No code in a checkpoint is executed: all are loaded with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_gen.packed.info import is_one_line, is_plain
from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.modality_names import MODALITIES
from models.checkpoint_files import WEIGHTS_SUFFIX, CheckpointError, newest
from models.encoder import Backbone

DDP_PREFIX = "module."
BACKBONE_PREFIX = "backbone."  # prefix of the keys that remain after pre-training
CLASSIFIER = "classifier"  # a fine-tuned encoder's entry for its Linear
CARD = "card"  # the entry in a slim file's header for the checkpoint's other contents
NEEDS_SAFETENSORS = "needs the package safetensors: pip install safetensors"
_TEXTS, _NUMBERS = ("dataset", "protocol", "data"), ("epoch", "recordings", "step")
_TABLES = ("args", "scores", "versions", "finetuned")
_MOST = 10**9  # of a number


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint or slim weights onto the CPU. Raises CheckpointError if the file is missing, damaged or
    neither."""
    state = _load_slim(path) if path.suffix == WEIGHTS_SUFFIX else load_plain(path)
    if not isinstance(state.get("state_dict"), dict):
        raise CheckpointError(f"{path} is not a checkpoint: it has no state_dict")
    for key, is_right in _RIGHT.items():
        if key in state and not is_right(state[key]):
            raise CheckpointError(f"{path} is not a checkpoint of this kind: its {key!r} is {state[key]!r:.200}")
    return state


def load_newest(place: Path) -> tuple[Path, dict[str, Any]]:
    """Read a checkpoint or slim weights, or the newest ones of a folder, and return their path, too. Another checkpoint
    may replace them meanwhile, as pre-training goes on. Raises CheckpointError."""
    path = newest(place)
    while True:
        try:
            return path, load(path)
        except (CheckpointError, OSError):
            before, path = path, newest(place)
            if path == before:
                raise


def _is_plain_table(value: object) -> bool:
    return isinstance(value, dict) and is_plain(value)


_RIGHT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_TEXTS, lambda v: isinstance(v, str) and is_one_line(v)),
    **dict.fromkeys(_NUMBERS, lambda v: type(v) is int and 0 <= v <= _MOST),
    **dict.fromkeys(_TABLES, _is_plain_table),
    "meter": lambda v: isinstance(v, dict),
    "centred": lambda v: isinstance(v, bool),
    CLASSIFIER: lambda v: isinstance(v, dict),
    "view": lambda v: isinstance(v, str) and all(map(is_one_line, v.split("\n"))),
    "state_dict": lambda v: all(isinstance(key, str) for key in v),
}


def load_plain(path: Path) -> dict[str, Any]:
    """Read a dict of tensors and plain values written by `torch.save`. Raises CheckpointError if it is invalid."""
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
    except Exception as error:  # torch and zipfile raise many kinds of errors for damaged files
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint: it has no state_dict")
    nested = [value for value in state.values() if isinstance(value, dict)]
    tensors = [v for table in (state, *nested) for v in table.values() if isinstance(v, Tensor)]
    if sum(v.numel() * v.element_size() for v in tensors) > path.stat().st_size:
        raise CheckpointError(f"{path} claims more weights than it holds")  # a stride of 0 repeats one value
    return state


def _load_slim(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}")
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise CheckpointError(f"{path} {NEEDS_SAFETENSORS}") from error
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            card = json.loads((file.metadata() or {}).get(CARD, "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # `file` is no dict
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as slim weights ({type(error).__name__}: {error})") from error
    if not isinstance(card, dict):
        raise CheckpointError(f"{path} is not made by tools.slim: its card is no object")
    state = {k: v for k, v in card.items() if v is not None}
    if isinstance(state.get(CLASSIFIER), dict):
        own = [key for key in tensors if key.startswith(f"{CLASSIFIER}.")]
        state[CLASSIFIER] |= {key.removeprefix(f"{CLASSIFIER}."): tensors.pop(key) for key in own}
    return state | {"state_dict": tensors}


def weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the state dict without the prefix `module.` of published checkpoints."""
    return {key.removeprefix(DDP_PREFIX): value for key, value in state["state_dict"].items()}


def modalities(state: dict[str, Any]) -> tuple[str, ...]:
    """Return the modalities that the encoder was pre-trained on; all if the checkpoint does not say. Raises
    CheckpointError if the entry is invalid."""
    trained = state.get("args", {}).get("pretrain_modalities", MODALITIES)
    if not isinstance(trained, list | tuple) or not trained or not all(m in MODALITIES for m in trained):
        raise CheckpointError(f"not a checkpoint of this model: its modalities are {trained!r}")
    return tuple(m for m in MODALITIES if m in trained)


def load_backbone(state: dict[str, Any], path: Path) -> Backbone:
    """Return a checkpoint's encoder, of any hidden size, in evaluation mode.

    Raises CheckpointError, naming the tensors, if some are missing, unexpected or of the wrong shape.
    """
    layout = layout_of(state, path)
    own = {k.removeprefix(BACKBONE_PREFIX): v for k, v in weights(state).items() if k.startswith(BACKBONE_PREFIX)}
    first = own.get("j_emb.t_embedding.0.weight")
    if not isinstance(first, Tensor) or first.is_nested or first.dim() != 2 or not len(first):
        raise CheckpointError(f"{path} holds no encoder of this model (no {BACKBONE_PREFIX}j_emb.t_embedding.0.weight)")
    if first.shape[1] != layout.size:
        raise CheckpointError(
            f"{path} is of another model: it takes {first.shape[1]} values a frame, {layout} {layout.size}"
        )
    try:
        with torch.device("meta"):  # takes no memory
            expected = Backbone(first.shape[0], layout=layout).state_dict()
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is of another model: {error}") from error
    check_tensors(own, expected, path)
    backbone = Backbone(first.shape[0], layout=layout)
    backbone.load_state_dict(own)
    return backbone.eval()


def check_tensors(found: Mapping[str, object], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError if tensors differ from the expected ones (which may be on the meta device) in keys, shapes
    or kind of number, are not dense, or are not finite in the expected precision."""
    if missing := [key for key in expected if key not in found]:
        raise CheckpointError(f'{path} is of another model: Missing key(s) "{missing[0]}"')
    if left := [key for key in found if key not in expected]:
        raise CheckpointError(f'{path} is of another model: Unexpected key(s) "{left[0]}"')
    for key, like in expected.items():
        value = found[key]
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta or value.is_nested:
            raise CheckpointError(f"{path} is of another model: {key} is no dense tensor")
        if value.shape != like.shape or not (value.is_floating_point() or value.dtype == like.dtype):
            raise CheckpointError(
                f"{path} is of another model: size mismatch, {key} is {value.dtype} {tuple(value.shape)}, expected "
                f"{like.dtype} {tuple(like.shape)}"
            )
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise CheckpointError(f"{path} claims more weights than it holds")
        if not value.to(like.dtype).isfinite().all():
            raise CheckpointError(f"{path} holds weights that are not finite ({key})")


def takes_centred(state: dict[str, Any], layout: FrameLayout) -> bool:
    """Return whether an encoder was trained on people centred as by conversion; True for older and published
    checkpoints, which do not say."""
    return layout.skeleton.centre is not None and state.get("centred", True)


def layout_of(state: dict[str, Any], path: Path) -> FrameLayout:
    """Return the frame layout that a checkpoint was trained on; NTU's for published ones, which do not say. Raises
    CheckpointError if the entry is invalid."""
    if "body" not in state:
        return NTU_LAYOUT
    try:
        return FrameLayout.from_json(state["body"])
    except ValueError as error:
        raise CheckpointError(f"{path} is not a checkpoint of this kind: its 'body': {error}") from error


def fingerprint(backbone: Backbone) -> str:
    """Compute the SHA-256 of an encoder's weights, as 64 characters; equal for equal weights on any device."""
    digest = hashlib.sha256()
    for key, value in sorted(backbone.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

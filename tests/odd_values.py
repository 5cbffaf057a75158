"""Put odd values into sound files: into a node of JSON, of a checkpoint, into an array of an archive."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

ODD = [None, True, 0, -1, 10**6, 2**70, 0.5, float("nan"), float("inf"), [], {}, [["x"]]]
ODD += ["", "x", "\x1b[31m", "a\u2028b", "joint"]
DTYPES = ["f8", ">f4", "i8", "u1", "U3", "c8", "?"]


def put_odd_value(rng: random.Random, path: Path) -> bool:
    """Change a file of one of these kinds; tells whether it is one."""
    if path.suffix == ".json":
        path.write_text(json.dumps(changed(rng, json.loads(path.read_text()))))
    elif path.name.endswith(".pth.tar"):
        torch.save(changed(rng, torch.load(path, weights_only=True)), path)
    elif path.suffix == ".npz":
        with np.load(path) as file:
            arrays = dict(file)
        key = rng.choice(sorted(arrays))
        arrays[key] = odd_array(rng, arrays[key])
        np.savez(path, **arrays)
    elif path.suffix == ".npy":
        np.save(path, odd_array(rng, np.load(path)))
    else:
        return False
    return True


def changed(rng: random.Random, value: Any) -> Any:
    """`value` with an entry of it, at any depth, left out, added or replaced."""
    deeper = isinstance(value, dict | list) and len(value) and rng.random() < 0.8
    if deeper and isinstance(value, dict):
        key, how = rng.choice(list(value)), rng.randrange(8)
        if how == 0:
            return {k: v for k, v in value.items() if k != key}
        if how == 1:
            return value | {rng.choice(["x", 3]): rng.choice(ODD)}
        return value | {key: changed(rng, value[key])}
    if deeper:
        place = rng.randrange(len(value))
        return [changed(rng, v) if i == place else v for i, v in enumerate(value)]
    return odd_tensor(rng, value) if isinstance(value, torch.Tensor) and rng.random() < 0.8 else rng.choice(ODD)


def odd_tensor(rng: random.Random, value: torch.Tensor) -> Any:
    """A tensor made of another: of another kind, shape or content."""
    return rng.choice(
        [
            lambda: value.double(),
            lambda: value.int(),
            lambda: value.bool(),
            lambda: value.to(torch.complex64),
            lambda: value.to(torch.float8_e4m3fn),
            lambda: value.to("meta"),
            lambda: value.to_sparse(),
            lambda: value.flatten()[:1],
            lambda: value.flatten()[:0],
            lambda: value[None],
            lambda: value.mT if value.dim() > 1 else value.flip(0) if value.dim() else value,
            lambda: value * float("nan"),
            lambda: value * 1e38,
            lambda: torch.zeros(1).expand(value.shape),
            lambda: [value],
        ]
    )()


def odd_array(rng: random.Random, value: np.ndarray) -> np.ndarray:
    """An array made of another: of another kind, shape or content."""
    how = rng.randrange(7)
    if how == 0:
        return value[:0] if value.ndim else value[None]
    if how == 1:
        return value[None]
    if how == 2:
        return value[:-1] if value.ndim else value
    if how == 3:
        return np.full_like(value, rng.choice([-1, 0, 1, 10**6]) if value.dtype.kind in "biuf" else "\x1b[31m")
    if how == 4 and value.dtype.kind == "f":
        return value * np.float32("nan")
    if how == 5:
        return np.array(rng.choice(["x", "", 3, 0.5]))
    kind = rng.choice(DTYPES)
    return (
        value.astype(kind) if value.dtype.kind in "biuf" or kind == "U3" else value.astype("S3" if value.size else "U1")
    )

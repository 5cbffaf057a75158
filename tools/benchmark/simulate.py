"""Simulate data of NTU's shape: files of random people, clips, and features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_gen.raw.skeleton_file import NUM_JOINTS
from data_gen.skeletons import NTU_LAYOUT
from feeder.clips import ClipDataset

CLASSES = 60
SHORTEST, MEAN, LONGEST = 30, 84, 300  # frames of a recording
_BODY = "72057594037927936 0 1 1 1 1 0 0.1 0.2 2\n25\n" + NUM_JOINTS * (" ".join(["%.7g"] * 11) + " 2\n")


def write_recordings(folder: Path, count: int, num_frame: int) -> list[Path]:
    """Write `.skeleton` files with numbers of seven digits; ten differ, every fifth shows two people."""
    rng = np.random.default_rng(0)
    texts = [_skeleton_text(1 + (i % 5 == 4), num_frame, rng) for i in range(10)]
    paths = [folder / f"S001C001P{1 + i // 60:03d}R001A{1 + i % 60:03d}.skeleton" for i in range(count)]
    folder.mkdir()
    for i, path in enumerate(paths):
        path.write_text(texts[i % 10])
    return paths


def _skeleton_text(people: int, num_frame: int, rng: np.random.Generator) -> str:
    values = rng.normal(0, 0.4, (num_frame, people, NUM_JOINTS, 11)) + ([0, 0, 3] + [500] * 4 + [0] * 4)
    frames = [f"{people}\n" + "".join(_BODY % tuple(body.ravel()) for body in frame) for frame in values]
    return f"{num_frame}\n" + "".join(frames)


def simulate_clips(count: int, distinct: int, device: torch.device) -> ClipDataset:
    """Simulate `count` recordings, `distinct` ones with repetition; every fifth shows two people."""
    rng = np.random.default_rng(0)
    lengths = (SHORTEST + rng.gamma(2, (MEAN - SHORTEST) / 2, min(distinct, count))).clip(max=LONGEST).astype(np.int64)
    frames = torch.randn(int(lengths.sum()), *NTU_LAYOUT.shape, generator=torch.Generator().manual_seed(0))
    frames[torch.from_numpy(np.repeat(np.arange(len(lengths)) % 5 < 4, lengths)), 1] = 0
    chosen = rng.permutation(np.arange(count) % len(lengths))
    first = np.cumsum(lengths) - lengths
    return ClipDataset(frames.to(device), lengths[chosen], chosen % CLASSES, first[chosen])


def simulate_features(count: int, size: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Simulate features (N, D), scattered around the centres of their classes, and labels int64 (N,)."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, size, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(CLASSES, (count,), generator=rng)
    return torch.randn(count, size, generator=rng).add_(centres[labels]).to(device), labels.to(device)

"""Simulate clips and features with NTU's numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from data_gen.skeletons import NTU_LAYOUT
from feeder.clips import ClipDataset

CLASSES = 60
SHORTEST, MEAN, LONGEST = 30, 84, 300  # frames of a recording


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

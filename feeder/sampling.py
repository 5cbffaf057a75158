"""What is random in training, as a function of (seed, epoch, step).

Orders and augmentation parameters are drawn for the *global* batch, and each process takes its own rows. So a
resumed run repeats an uninterrupted one, and any number of processes see what one process sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def _generator(*key: int) -> torch.Generator:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """The permutation of 0..size−1, int64, in which an epoch visits the recordings."""
    return torch.randperm(size, generator=_generator(seed, epoch, 0))


def global_batches(size: int, batch_size: int) -> list[slice]:
    """Slices of an epoch's order. The last, partial batch is kept; one of a single clip has no variance and
    is dropped."""
    batches = [slice(start, min(start + batch_size, size)) for start in range(0, size, batch_size)]
    return [b for b in batches if b.stop - b.start > 1]


def share(size: int, rank: int, world_size: int) -> slice:
    """The rows of a global batch that belong to one process: contiguous, sizes differ by one at most."""
    return slice(rank * size // world_size, (rank + 1) * size // world_size)


@dataclass
class StepRandom:
    """Random numbers for one step: drawn for `size` clips (the global batch), of which those of `rows`, positions in
    it, are returned."""

    generator: torch.Generator
    size: int
    rows: slice | Tensor

    @classmethod
    def for_step(cls, seed: int, epoch: int, step: int, size: int, rows: slice | Tensor) -> StepRandom:
        return cls(_generator(seed, epoch, step + 1), size, rows)

    def uniform(self, *shape: int) -> Tensor:
        """U[0, 1), float32 (rows, *shape)."""
        return torch.rand(self.size, *shape, generator=self.generator)[self.rows]

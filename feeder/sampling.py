"""Random numbers of training, a function of (seed, epoch, recording, view).

They do not depend on batch, step, process or device. So a resumed run repeats an uninterrupted one, any number of
processes see the same views, and a GPU draws its own numbers without waiting for the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Constants of SplitMix64 (Steele, Lea, Flood 2014), as signed 64-bit integers: torch multiplies modulo 2^64.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def _seed(*key: int) -> int:
    """Mix non-negative numbers into a 64-bit seed."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """Permute the recordings for an epoch: int64 (size,)."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(_seed(seed, epoch, 0)))


def global_batches(size: int, batch_size: int) -> list[slice]:
    """Cut an epoch's order into batches, as slices. A partial last batch is kept, but for a single clip, which has no
    variance."""
    batches = [slice(start, min(start + batch_size, size)) for start in range(0, size, batch_size)]
    return [b for b in batches if b.stop - b.start > 1]


def share(size: int, rank: int, world_size: int) -> slice:
    """Return one process's rows of a global batch: contiguous, their numbers differ by at most one."""
    return slice(rank * size // world_size, (rank + 1) * size // world_size)


@dataclass
class ViewRandom:
    """Draw random numbers for B views. Each call of `uniform` draws new ones, the same on every device.

    key: int64 (B,), one per view; drawn: how many numbers each view has drawn.
    """

    key: Tensor
    drawn: int = 0

    @classmethod
    def of_views(cls, seed: int, epoch: int, recordings: Tensor, views: int) -> ViewRandom:
        """Make the source for B = views · R views of the `recordings`, int64 (R,): all first views, then all second
        ones, and so on."""
        view = torch.arange(1, views + 1, device=recordings.device)[:, None]
        start = _seed(seed, epoch, 1) - 2**63
        return cls(_mix(_mix(start + recordings * _GAMMA) + view * _GAMMA).flatten())

    def uniform(self, *shape: int) -> Tensor:
        """Draw from U[0, 1): float32 (B, *shape), on the keys' device."""
        count = math.prod(shape)
        number = torch.arange(self.drawn + 1, self.drawn + count + 1, device=self.key.device)
        self.drawn += count
        bits = _mix(self.key[:, None] + number * _GAMMA)
        return (_shifted(bits, 40).float() * 2**-24).view(-1, *shape)


def _mix(x: Tensor) -> Tensor:
    """Apply SplitMix64's bijection of int64."""
    x = (x ^ _shifted(x, 30)) * _MIX[0]
    x = (x ^ _shifted(x, 27)) * _MIX[1]
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift right, and fill with zeros instead of the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)

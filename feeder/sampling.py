"""What is random in training, as a function of (seed, epoch, recording, view).

Nothing depends on the batch, the step, the process or the device. So a resumed run repeats an uninterrupted one, any
number of processes see what one process sees, and a GPU draws its own numbers without waiting for the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Of SplitMix64 (Steele, Lea, Flood 2014), as signed 64-bit integers, which torch multiplies modulo 2^64.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def _seed(*key: int) -> int:
    """64 well-mixed bits of some non-negative numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """The permutation of 0..size−1, int64, in which an epoch visits the recordings."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(_seed(seed, epoch, 0)))


def global_batches(size: int, batch_size: int) -> list[slice]:
    """Slices of an epoch's order. The last, partial batch is kept; one of a single clip has no variance and
    is dropped."""
    batches = [slice(start, min(start + batch_size, size)) for start in range(0, size, batch_size)]
    return [b for b in batches if b.stop - b.start > 1]


def share(size: int, rank: int, world_size: int) -> slice:
    """The rows of a global batch that belong to one process: contiguous, sizes differ by one at most."""
    return slice(rank * size // world_size, (rank + 1) * size // world_size)


@dataclass
class ViewRandom:
    """Random numbers for B views. Each call of `uniform` gives new ones, the same on every device.

    key: int64 (B,), one for each view; drawn: how many numbers a view has had so far.
    """

    key: Tensor
    drawn: int = 0

    @classmethod
    def of_views(cls, seed: int, epoch: int, recordings: Tensor, views: int) -> ViewRandom:
        """For `views` views of each of the `recordings`, int64 (R,): all first views, then all second ones, and so on;
        B = views · R."""
        view = torch.arange(1, views + 1, device=recordings.device)[:, None]
        start = _seed(seed, epoch, 1) - 2**63
        return cls(_mix(_mix(start + recordings * _GAMMA) + view * _GAMMA).flatten())

    def uniform(self, *shape: int) -> Tensor:
        """U[0, 1), float32 (B, *shape), on the keys' device."""
        count = math.prod(shape)
        number = torch.arange(self.drawn + 1, self.drawn + count + 1, device=self.key.device)
        self.drawn += count
        bits = _mix(self.key[:, None] + number * _GAMMA)
        return (_shifted(bits, 40).float() * 2**-24).view(-1, *shape)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's bijection of int64."""
    x = (x ^ _shifted(x, 30)) * _MIX[0]
    x = (x ^ _shifted(x, 27)) * _MIX[1]
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """x >> bits, filled up with zeros instead of the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)

"""The methods of pre-training: an encoder, projectors of its features, and a loss (docs/method.md, 5 and 6).

A method says by `streams` which modalities each of its views becomes, maps the streams to projections, and has its
`loss`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.encoder import Encoder
from models.losses import PUBLISHED, BaselineLoss, LossWeights, Projections, UmURLLoss, WeightedLoss

PROJECTION_SIZE = 4096


class Method(nn.Module):
    """An encoder and a loss. `streams`: the modalities of each view."""

    streams: tuple[tuple[str, ...], ...]

    encoder: Encoder
    loss: WeightedLoss

    def __init__(self, encoder: Encoder, loss: WeightedLoss):
        super().__init__()
        self.encoder, self.loss = encoder, loss
        self.encode = encoder.encode  # or its compiled form


class UmURL(Method):
    """A stream of each modality and one of all, fused; a shared encoder; a projector per modality."""

    def __init__(self, encoder: Encoder, weights: LossWeights = PUBLISHED):
        super().__init__(encoder, UmURLLoss(weights))
        self.modalities = encoder.modalities
        self.streams = (*((modality,) for modality in self.modalities), self.modalities)
        self.projectors = nn.ModuleDict({m: projector(encoder.feature_size) for m in self.modalities})

    def forward(self, streams: Sequence[dict[str, Tensor]]) -> Projections:
        """Project the streams' features to (B, 4096), twice by each modality's projector: `joint` is its own stream,
        `multi_joint` the fused one. Batch statistics are those of the global batch."""
        *uni_modal, multi_modal = self.encode(streams)
        z = {m: self.projectors[m](feature) for m, feature in zip(self.modalities, uni_modal)}
        return z | {f"multi_{m}": self.projectors[m](multi_modal) for m in self.modalities}


class SimpleBaseline(Method):
    """The ablation's baseline, early fusion alone: two fused streams, each of its own view, and one projector."""

    def __init__(self, encoder: Encoder, weights: LossWeights = PUBLISHED):
        super().__init__(encoder, BaselineLoss(weights))
        self.streams = (encoder.modalities, encoder.modalities)
        self.projector = projector(encoder.feature_size)

    def forward(self, streams: Sequence[dict[str, Tensor]]) -> Projections:
        """Project both streams' features to (B, 4096): `view_1` and `view_2`."""
        return {f"view_{i}": self.projector(feature) for i, feature in enumerate(self.encode(streams), 1)}


def projector(size: int) -> nn.Sequential:
    """Make a projector (B, size) → (B, 4096): (Linear, BatchNorm, ReLU) × 2, Linear."""
    return nn.Sequential(
        nn.Linear(size, size),
        GlobalBatchNorm(size),
        nn.ReLU(),
        nn.Linear(size, size),
        GlobalBatchNorm(size),
        nn.ReLU(),
        nn.Linear(size, PROJECTION_SIZE),
    )


class _AllReduceSum(torch.autograd.Function):
    """Differentiable all-reduce (sum); the backward pass sums the processes' gradients.

    PyTorch's functional all-reduce carries gradients only in versions newer than 2.9, and that of
    torch.distributed.nn is deprecated in those.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


class GlobalBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d for (B, D) with training statistics over the rows of all processes.

    `nn.SyncBatchNorm` refuses CPU tensors and processes without rows (a last batch smaller than the number of
    processes); this accepts both. In one process it is BatchNorm1d itself.
    """

    # With BatchNorm1d's default arguments, these are not None.
    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            mean, var, count = self._global_statistics(x)
            with torch.no_grad():
                self.num_batches_tracked += 1
                unbiased = var * (count / (count - 1))
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
            scale = self.weight * torch.rsqrt(var + self.eps).to(self.weight.dtype)
            out = (x.float() - mean.to(self.weight.dtype)) * scale + self.bias
        return out.to(x.dtype)

    @staticmethod
    def _global_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and biased variance (D,) and the number of rows, all float64: in that precision sums of squares
        lose nothing of float32 values, and one reduction suffices."""
        wide = x.double()
        count = wide.new_full((1,), len(wide))
        sums = _AllReduceSum.apply(torch.cat((wide.sum(0), wide.square().sum(0), count)))
        total, squares, count = sums.split((x.shape[1], x.shape[1], 1))
        mean = total / count
        return mean, (squares / count - mean.square()).clamp(min=0), count

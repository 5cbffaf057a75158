"""The losses (docs/method.md, 6): consistency within and between modalities, and VICReg's regularisers.

A loss is a module that knows its weights. Each of its terms is a method that is named as a field of `LossWeights`: to
add a term, add a field there and a method here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from models import LossWeights

EPSILON = 1e-4
PUBLISHED = LossWeights()
Projections = dict[str, Tensor]  # name → (B, D)


class Loss(NamedTuple):
    """total: the loss to minimise, with gradient. terms: its unweighted terms by name, detached. std: the mean standard
    deviation of each projection, detached; near zero when projections collapse."""

    total: Tensor
    terms: dict[str, Tensor]
    std: dict[str, Tensor]


class WeightedLoss(nn.Module):
    """Add up the terms that the class has as methods, by their weights, in float32."""

    def __init__(self, weights: LossWeights = PUBLISHED):
        super().__init__()
        self.weights = weights

    @classmethod
    def terms(cls) -> list[str]:
        """Return the names of the loss's terms."""
        return [name for name in asdict(PUBLISHED) if hasattr(cls, name)]

    def forward(self, projections: Projections, sizes: Sequence[int] = (), rank: int = 0) -> Loss:
        """Compute the loss of the global batch from this process's projections; `sizes` are all processes' numbers of
        clips."""
        device = next(iter(projections.values())).device.type
        with torch.autocast(device, enabled=False):  # the covariance overflows in float16
            z = {name: p.float() for name, p in gather(projections, sizes, rank).items()}
            centred = {name: p - p.mean(0) for name, p in z.items()}
            terms = {name: getattr(self, name)(z, centred) for name in self.terms()}
            weighted = [getattr(self.weights, name) * term for name, term in terms.items()]
            total = sum(weighted[1:], weighted[0])
            std = {name: deviation(c.detach()).mean() for name, c in centred.items()}
        return Loss(total, {name: term.detach() for name, term in terms.items()}, std)

    def std(self, z: Projections, centred: Projections) -> Tensor:
        """The variance loss of every projection."""
        return _sum(variance_loss(c) for c in centred.values())

    def cov(self, z: Projections, centred: Projections) -> Tensor:
        """The covariance loss of every projection."""
        return _sum(covariance_loss(c) for c in centred.values())


class UmURLLoss(WeightedLoss):
    """The paper's objective, of two projections of each modality: `joint` of its own stream, `multi_joint` of the
    multi-modal one."""

    def intra(self, z: Projections, centred: Projections) -> Tensor:
        """Σ MSE between a modality's two projections."""
        return _sum(F.mse_loss(z[m], z[f"multi_{m}"]) for m in _uni_modal(z))

    def inter(self, z: Projections, centred: Projections) -> Tensor:
        """Σ MSE between a modality's projection and the mean of all modalities'."""
        modalities = _uni_modal(z)
        mean = _sum(z[m] for m in modalities) / len(modalities)
        return _sum(F.mse_loss(z[m], mean) for m in modalities)


class BaselineLoss(WeightedLoss):
    """The simple baseline's objective, of the projections of two views."""

    def intra(self, z: Projections, centred: Projections) -> Tensor:
        """MSE between the two views' projections."""
        first, second = z.values()
        return F.mse_loss(first, second)


def variance_loss(centred: Tensor) -> Tensor:
    """Compute mean_d relu(1 − √(Var_d + 1e-4)) of centred projections (B, D), with unbiased variance."""
    return F.relu(1 - deviation(centred)).mean()


def covariance_loss(centred: Tensor) -> Tensor:
    """Compute Σ_{i≠j} Cov_ij² / D of centred projections (B, D), with unbiased covariance.

    If B < D, the sum of all Cov² comes from the smaller Gram matrix: ‖ZᵀZ‖ = ‖ZZᵀ‖ (Frobenius).
    """
    batch, dims = centred.shape
    product = centred @ centred.T if batch < dims else centred.T @ centred
    return (product.square().sum() / (batch - 1) ** 2 - variance(centred).square().sum()) / dims


def deviation(centred: Tensor) -> Tensor:
    """Compute √(Var_d + 1e-4) of each column of centred projections (B, D): (D,)."""
    return torch.sqrt(variance(centred) + EPSILON)


def variance(centred: Tensor) -> Tensor:
    """Compute the unbiased variance of each column of centred projections (B, D): (D,)."""
    return centred.square().sum(0) / (len(centred) - 1)


def _uni_modal(z: Projections) -> list[str]:
    return [name for name in z if f"multi_{name}" in z]


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum(0)


class _Gather(torch.autograd.Function):
    """Differentiable all-gather of rows, in order of rank. Processes may hold different numbers (`sizes`), or none."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, sizes: Sequence[int], rank: int) -> Tensor:
        ctx.rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        ctx.world_size = len(sizes)
        padded = F.pad(z, (0, 0, 0, max(sizes) - len(z))).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        # Every process computes the same loss of the same rows, so no reduction is needed here. DDP then averages
        # over processes; the factor undoes that.
        return grad[ctx.rows] * ctx.world_size, None, None


def gather(projections: Projections, sizes: Sequence[int], rank: int) -> Projections:
    """Gather the global batch's projections from the processes, which hold `sizes[rank]` rows each, in one collective.

    Differentiable: under DDP the gradients are those of one process on the global batch.
    """
    if len(sizes) <= 1:
        return projections
    together = _Gather.apply(torch.cat([p.float() for p in projections.values()], dim=1), sizes, rank)
    return dict(zip(projections, together.chunk(len(projections), dim=1)))

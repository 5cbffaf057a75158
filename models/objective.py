"""The objective (docs/method.md, 6): consistency within and between modalities, and VICReg's regularisers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from data_gen.recipes import Weights
from models.umurl import Projections

EPSILON = 1e-4
PUBLISHED = Weights()


class Loss(NamedTuple):
    """total: the loss to minimise, with gradient. terms: its unweighted terms by name, detached. std: the mean standard
    deviation of each projection, detached; near zero when projections collapse."""

    total: Tensor
    terms: dict[str, Tensor]
    std: dict[str, Tensor]


def umurl_loss(projections: Projections, weights: Weights = PUBLISHED) -> Loss:
    """Compute the objective in float32 from the global batch's projections, two (B, D) per modality."""
    with torch.autocast(_device(projections), enabled=False):  # the covariance overflows in float16
        z = {name: p.float() for name, p in projections.items()}
        centred = {name: p - p.mean(0) for name, p in z.items()}
        modalities = [name for name in z if f"multi_{name}" in z]
        mean = _sum(z[m] for m in modalities) / len(modalities)
        intra = _sum(F.mse_loss(z[m], z[f"multi_{m}"]) for m in modalities)
        inter = _sum(F.mse_loss(z[m], mean) for m in modalities)
        std = _sum(variance_loss(c) for c in centred.values())
        cov = _sum(covariance_loss(c) for c in centred.values())
        total = weights.intra * intra + weights.inter * inter + weights.std * std + weights.cov * cov
        return _loss(total, centred, intra=intra, inter=inter, std=std, cov=cov)


def baseline_loss(projections: Projections, weights: Weights = PUBLISHED) -> Loss:
    """Compute the simple baseline's objective in float32 from its two views' projections (B, D)."""
    with torch.autocast(_device(projections), enabled=False):
        first, second = (p.float() for p in projections.values())
        centred = {name: p - p.mean(0) for name, p in zip(projections, (first, second))}
        intra = F.mse_loss(first, second)
        std = _sum(variance_loss(c) for c in centred.values())
        cov = _sum(covariance_loss(c) for c in centred.values())
        total = weights.intra * intra + weights.std * std + weights.cov * cov
        return _loss(total, centred, intra=intra, std=std, cov=cov)


def variance_loss(centred: Tensor) -> Tensor:
    """Compute mean_d relu(1 − √(Var_d + 1e-4)) of centred projections (B, D), with unbiased variance."""
    return F.relu(1 - deviation(centred)).mean()


def covariance_loss(centred: Tensor) -> Tensor:
    """Compute Σ_{i≠j} Cov_ij² / D of centred projections (B, D), with unbiased covariance.

    If B < D, the sum of all Cov² comes from the smaller Gram matrix: ‖ZᵀZ‖ = ‖ZZᵀ‖ (Frobenius).
    """
    rows, dims = centred.shape
    product = centred @ centred.T if rows < dims else centred.T @ centred
    return (product.square().sum() / (rows - 1) ** 2 - variance(centred).square().sum()) / dims


def deviation(centred: Tensor) -> Tensor:
    """Compute √(Var_d + 1e-4) of each column of centred projections (B, D): (D,)."""
    return torch.sqrt(variance(centred) + EPSILON)


def variance(centred: Tensor) -> Tensor:
    """Compute the unbiased variance of each column of centred projections (B, D): (D,)."""
    return centred.square().sum(0) / (len(centred) - 1)


def _loss(total: Tensor, centred: Projections, **terms: Tensor) -> Loss:
    detached = {name: term.detach() for name, term in terms.items()}
    return Loss(total, detached, {name: deviation(c.detach()).mean() for name, c in centred.items()})


def _device(projections: Projections) -> str:
    return next(iter(projections.values())).device.type


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

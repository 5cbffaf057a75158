"""The objective (docs/method.md, 6): consistency within and between modalities, and VICReg-style regularisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from models.umurl import Projections

EPSILON = 1e-4


@dataclass(frozen=True)
class Weights:
    """Of the objective's terms; the defaults are the published ones."""

    intra: float = 5.0
    inter: float = 5.0
    std: float = 5.0
    cov: float = 1.0


class Loss(NamedTuple):
    """total: what is minimised. terms: its parts by name, unweighted but for `vc`, the sum of the regularisers. std:
    the mean standard deviation of each projection. Only `total` has a gradient."""

    total: Tensor
    terms: dict[str, Tensor]
    std: dict[str, Tensor]


def umurl_loss(projections: Projections, weights: Weights = Weights()) -> Loss:
    """The loss of the global batch's projections, two (B, D) a modality. Computed in float32 whatever their dtype."""
    with torch.autocast(_device_type(projections), enabled=False):
        z = {name: p.float() for name, p in projections.items()}
        multi = {name: z[f"multi_{name}"] for name in z if f"multi_{name}" in z}
        uni = [z[name] for name in multi]
        mean = sum(uni[1:], uni[0]) / len(uni)
        intra = _sum([F.mse_loss(a, b) for a, b in zip(uni, multi.values())])
        inter = _sum([F.mse_loss(a, mean) for a in uni])
        vc, std = _regularise(z, weights)
        total = weights.intra * intra + weights.inter * inter + vc
        return Loss(total, {"intra": intra.detach(), "inter": inter.detach(), "vc": vc.detach()}, std)


def baseline_loss(projections: Projections, weights: Weights = Weights()) -> Loss:
    """The loss of the simple baseline: `intra` between its two views (B, D), and the regularisers. In float32."""
    with torch.autocast(_device_type(projections), enabled=False):
        z = {name: p.float() for name, p in projections.items()}
        first, second = z.values()
        intra = F.mse_loss(first, second)
        vc, std = _regularise(z, weights)
        return Loss(weights.intra * intra + vc, {"intra": intra.detach(), "vc": vc.detach()}, std)


def _device_type(projections: Projections) -> str:
    return next(iter(projections.values())).device.type


def _regularise(z: Projections, weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all projections' variance and covariance terms, and their mean deviations."""
    terms = {name: variance_covariance(a, weights) for name, a in z.items()}
    return _sum([term for term, _ in terms.values()]), {name: std for name, (_, std) in terms.items()}


def _sum(terms: list[Tensor]) -> Tensor:
    return sum(terms[1:], terms[0])


def variance_covariance(z: Tensor, weights: Weights = Weights()) -> tuple[Tensor, Tensor]:
    """5·mean_d relu(1 − √(Var_d + 1e-4)) + Σ_{i≠j} Cov_ij² / D of z (B, D), with the weights 5 and 1, and its detached
    mean deviation.

    Variance and covariance are unbiased. Where B < D the sum over all of Cov² is taken from the smaller Gram
    matrix: ‖ZᵀZ‖ = ‖ZZᵀ‖ (Frobenius).
    """
    rows, dims = z.shape
    centred = z - z.mean(0)
    var = centred.square().sum(0) / (rows - 1)
    deviation = torch.sqrt(var + EPSILON)
    product = centred @ centred.T if rows < dims else centred.T @ centred
    off_diagonal = product.square().sum() / (rows - 1) ** 2 - var.square().sum()
    std_term = F.relu(1 - deviation).mean()
    return weights.std * std_term + weights.cov * off_diagonal / dims, deviation.detach().mean()


class _Gather(torch.autograd.Function):
    """Rows of all processes, in order of rank. Processes may hold different numbers of rows (`sizes`), or none."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, sizes: list[int], rank: int) -> Tensor:
        ctx.rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        ctx.world_size = len(sizes)
        padded = F.pad(z, (0, 0, 0, max(sizes) - len(z))).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        # Every process computes the same loss of the same gathered rows, so the gradients that a reduction
        # would add up are equal; the factor makes DDP's mean over processes the gradient of that one loss.
        return grad[ctx.rows] * ctx.world_size, None, None


def gather(projections: Projections, sizes: list[int], rank: int) -> Projections:
    """The global batch's projections from each process's rows (`sizes[rank]` of them), differentiable.

    One collective for all of them. Under DDP the gradients come out as those of one process on the global batch.
    """
    if len(sizes) == 1:
        return projections
    together = _Gather.apply(torch.cat([p.float() for p in projections.values()], dim=1), sizes, rank)
    return dict(zip(projections, together.chunk(len(projections), dim=1)))

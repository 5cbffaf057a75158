"""The objective (docs/method.md, 6): consistency within and between modalities, and VICReg-style regularisers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from models.umurl import Projections

CONSISTENCY_WEIGHT = 5.0
STD_WEIGHT = 5.0
COV_WEIGHT = 1.0
EPSILON = 1e-4


class Loss(NamedTuple):
    """total = 5·(intra + inter) + vc; `std`: mean standard deviation of each of the six projections, detached."""

    total: Tensor
    intra: Tensor
    inter: Tensor
    vc: Tensor
    std: Tensor


def umurl_loss(projections: Projections) -> Loss:
    """The loss of the global batch's projections, six times (B, D). Computed in float32 whatever their dtype."""
    with torch.autocast(projections[0].device.type, enabled=False):
        z = [p.float() for p in projections]
        uni, multi = z[:3], z[3:]
        mean = (uni[0] + uni[1] + uni[2]) / 3
        zero = torch.zeros(())
        intra = sum((F.mse_loss(a, b) for a, b in zip(uni, multi)), zero)
        inter = sum((F.mse_loss(a, mean) for a in uni), zero)
        terms = [variance_covariance(a) for a in z]
        vc = sum((term for term, _ in terms), zero)
        std = torch.stack([s for _, s in terms])
        return Loss(CONSISTENCY_WEIGHT * (intra + inter) + vc, intra, inter, vc, std)


def variance_covariance(z: Tensor) -> tuple[Tensor, Tensor]:
    """5·mean_d relu(1 − √(Var_d + 1e-4)) + Σ_{i≠j} Cov_ij² / D of z (B, D), and its detached mean deviation.

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
    return STD_WEIGHT * std_term + COV_WEIGHT * off_diagonal / dims, deviation.detach().mean()


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

    One collective for all six. Under DDP the gradients come out as those of one process on the global batch.
    """
    if len(sizes) == 1:
        return projections
    together = _Gather.apply(torch.cat([p.float() for p in projections], dim=1), sizes, rank)
    return Projections(*together.chunk(len(projections), dim=1))

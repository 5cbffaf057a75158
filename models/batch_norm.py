"""Batch norm over the global batch, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


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
        rows = wide.new_full((1,), len(wide))
        sums = _AllReduceSum.apply(torch.cat((wide.sum(0), wide.square().sum(0), rows)))
        total, squares, count = sums.split((x.shape[1], x.shape[1], 1))
        mean = total / count
        return mean, (squares / count - mean.square()).clamp(min=0), count

"""Batch norm over the global batch, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """all_reduce(sum) whose gradient is the sum of the processes' gradients."""

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
    """BatchNorm1d for (B, D) whose training statistics run over all processes' rows.

    `nn.SyncBatchNorm` refuses CPU tensors and processes without rows (a last batch smaller than the number of
    processes); this takes both. In one process it is BatchNorm1d itself.
    """

    # Made with the defaults, so these are not None.
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
        """Mean and biased variance (D,), and the number of rows, all float64: sums of squares of that precision
        lose nothing that float32 holds, and need one reduction."""
        wide = x.double()
        rows = wide.new_full((1,), len(wide))
        sums = _SumOverProcesses.apply(torch.cat((wide.sum(0), wide.square().sum(0), rows)))
        total, squares, count = sums.split((x.shape[1], x.shape[1], 1))
        mean = total / count
        return mean, (squares / count - mean.square()).clamp(min=0), count

"""The learning rate over the epochs."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer


def set_learning_rate(optimizer: Optimizer, start: float, schedule: Sequence[int], epoch: int) -> float:
    """Set and return an epoch's learning rate: that at the start, a tenth of it from each epoch in `schedule` on."""
    lr = start * 0.1 ** sum(epoch >= at for at in schedule)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr

"""Running means of the losses, kept on the device until they are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.objective import Loss
from tools.utils.errors import UserError


class LossMeter:
    """Average losses over an epoch, weighted by clips. Reading waits for the device; adding does not."""

    def __init__(self, state: dict | None = None, device: torch.device | None = None):
        """Start empty, or go on from what `state()` returned, on `device`. Raises ValueError for anything else."""
        if state and not (
            isinstance(state.get("sum"), Tensor)
            and type(state.get("clips")) is int
            and (state["sum"].dim(), state["sum"].dtype, state["sum"].layout) == (1, torch.float32, torch.strided)
            and 0 < len(state["sum"]) < 100
            and state["clips"] > 0
        ):
            raise ValueError(f"its 'meter' is {state!r:.200}")
        self._sum: Tensor | None = state["sum"].to(device) if state else None
        self._clips: int = state["clips"] if state else 0
        self._names: list[str] = []

    def state(self) -> dict[str, Any]:
        return {"sum": self._sum, "clips": self._clips}

    def add(self, loss: Loss, clips: int) -> None:
        self._names = ["loss/total", *(f"loss/{name}" for name in loss.terms), *(f"std/{name}" for name in loss.std)]
        values = torch.stack([loss.total.detach(), *loss.terms.values(), *loss.std.values()])
        self._sum = values * clips if self._sum is None else self._sum + values * clips
        self._clips += clips

    def read(self, epoch: int) -> dict[str, float]:
        """Return the means so far, by their names in the log. Raises UserError if one is not finite."""
        assert self._sum is not None  # there has been a step
        means = dict(zip(self._names, (self._sum / self._clips).tolist()))
        bad = [name for name, value in means.items() if not abs(value) < float("inf")]
        if bad:
            raise UserError(
                f"epoch {epoch}: {', '.join(bad)} not finite, so training stops; the last checkpoint is from before. "
                "Lower --lr, or use --amp bf16 or off, and rerun: it goes on from that checkpoint"
            )
        return means

"""Encoders, methods and losses. Here: what is chosen by name, without importing PyTorch.

`load_encoder` is the entry point for other code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.frozen import FrozenEncoder, load_encoder

__all__ = ["ENCODERS", "METHODS", "FrozenEncoder", "LossWeights", "load_encoder"]


def _weight(default: float, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss's terms; the defaults are the published ones. A field is a flag `--NAME-weight`, an entry of
    checkpoints, and the method of its name in `models/losses.py`."""

    intra: float = _weight(5.0, "intra-modal loss (baseline: loss between its two views)")
    inter: float = _weight(5.0, "inter-modal loss")
    std: float = _weight(5.0, "variance loss of each projection")
    cov: float = _weight(1.0, "covariance loss of each projection")

    def flags(self) -> dict[str, float]:
        """Return the weights by the names of their flags: `intra_weight`, ..."""
        return {f"{name}_weight": value for name, value in vars(self).items()}


def _class(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports a class and makes an instance."""

    def make(*args: Any) -> Any:
        return getattr(import_module(module), name)(*args)

    return make


# --encoder: name → function of (hidden_size, modalities, layout) that makes it (docs/encoders.md has the contract).
ENCODERS: dict[str, Callable[..., Any]] = {
    "transformer": _class("models.transformer", "Transformer"),
    "stgcn": _class("models.stgcn", "STGCN"),
}
# --method: name → function of (encoder, LossWeights) that makes it.
METHODS: dict[str, Callable[..., Any]] = {
    "umurl": _class("models.umurl", "UmURL"),
    "baseline": _class("models.umurl", "SimpleBaseline"),
}


def __getattr__(name: str) -> Any:
    if name not in ("FrozenEncoder", "load_encoder"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from models import frozen

    return getattr(frozen, name)

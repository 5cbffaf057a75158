"""Accuracies, in %."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Compute the share of predictions (N,) that equal the labels (N,)."""
    return 100.0 * (predicted == labels).double().mean().item()


def top_k_hits(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Top-k hits of logits (N, classes) and labels (N,): bool (N,). With at most k classes all are hits."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(1)


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Compute the share of top-k hits."""
    return 100.0 * top_k_hits(logits, labels, k).double().mean().item()

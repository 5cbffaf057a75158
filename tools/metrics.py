"""Accuracies and their summaries."""

from __future__ import annotations

import statistics

from torch import Tensor


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of equal labels (N,), in %."""
    return 100.0 * (predicted == labels).double().mean().item()


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of rows of scores (N, classes) whose label is among the k highest, in %; k is cut to the classes."""
    return 100.0 * in_top_k(scores, labels, k).double().mean().item()


def in_top_k(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Whether a row's label (N,) is among its k highest scores (N, classes): bool (N,)."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(1)


def summary(values: list[float]) -> dict[str, float | list[float]]:
    """Values a seed, their mean and (population) standard deviation."""
    return {"per_seed": values, "mean": statistics.fmean(values), "std": statistics.pstdev(values)}

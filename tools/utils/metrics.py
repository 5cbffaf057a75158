"""Accuracies, and their summaries over seeds."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Compute the share of predictions (N,) that equal the labels (N,), in %."""
    return 100.0 * (predicted == labels).double().mean().item()


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Compute the share of rows of scores (N, classes) whose label is among the k highest, in %."""
    return 100.0 * in_top_k(scores, labels, k).double().mean().item()


def in_top_k(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Tell for each row of scores (N, classes) whether its label is among the k highest: bool (N,). With at most k
    classes it always is."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(1)


def class_accuracies(predicted: Tensor, labels: Tensor, num_classes: int) -> list[float | None]:
    """Compute the accuracy of each class in %; None for a class without recordings."""
    total = labels.bincount(minlength=num_classes).tolist()
    right = labels[predicted == labels].bincount(minlength=num_classes).tolist()
    return [100.0 * r / t if t else None for r, t in zip(right, total)]


def mean_of_classes(per_run: list[list[float | None]]) -> list[float | None]:
    """Average `class_accuracies` over runs, class by class."""
    return [
        None if None in values else statistics.fmean(v for v in values if v is not None) for values in zip(*per_run)
    ]


def summary(values: list[float]) -> dict[str, float | list[float]]:
    """Summarise one value a seed: the values, their mean and their (population) standard deviation."""
    return {"per_seed": values, "mean": statistics.fmean(values), "std": statistics.pstdev(values)}


def format_summary(s: dict, digits: int = 1) -> str:
    """Format a summary as `mean ± deviation`, or as the mean alone for one seed."""
    deviation = f" ± {s['std']:.{digits}f}" if len(s["per_seed"]) > 1 else ""
    return f"{s['mean']:.{digits}f}{deviation}"

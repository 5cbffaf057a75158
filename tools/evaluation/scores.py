"""Summarise a classifier's validations during training, best and last, for the log, the JSON and TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.utils.metrics import format_summary, mean_of_classes, summary

METRICS = ("top1", "top5", "loss")

Curves = dict[str, list[tuple[int, float]]]  # points (epoch, value) by name


@dataclass(frozen=True)
class Validation:
    """Hold the runs' scores after `epoch` epochs, one value per run: top-1 and top-5 in %, and the last epoch's mean
    loss.

    `per_class`, if known, holds each run's `class_accuracies`.
    """

    epoch: int
    top1: list[float]
    top5: list[float]
    loss: list[float]
    per_class: list[list[float | None]] = field(default_factory=list)


def best_and_last(validations: list[Validation], runs: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Summarise the validation with the highest top-1 and the last one over `runs`, one run per seed."""
    best = [max(validations, key=lambda v: v.top1[run]) for run in runs]
    return {"last": _summaries([validations[-1]] * len(runs), runs), "best": _summaries(best, runs)}


def _summaries(validations: list[Validation], runs: Sequence[int]) -> dict[str, Any]:
    """Summarise one validation of each run."""
    found: dict[str, Any] = {"epoch": [v.epoch for v in validations]}
    for metric in ("top1", "top5"):
        found[metric] = summary([getattr(v, metric)[run] for v, run in zip(validations, runs)])
    if validations[0].per_class:
        found["per_class"] = mean_of_classes([v.per_class[run] for v, run in zip(validations, runs)])
    return found


def log_scores(title: str, scores: dict[str, dict[str, Any]]) -> None:
    """Log the result of `best_and_last`."""
    for which, said in (("last", "last"), ("best", "best (chosen on the val side)")):
        top1, top5 = (format_summary(scores[which][metric], 2) for metric in ("top1", "top5"))
        logging.getLogger("umurl").info(f"{title}, {said}: top-1 {top1} %, top-5 {top5} %")


def history(validations: list[Validation]) -> list[dict[str, Any]]:
    """Return the validations as plain values for the JSON."""
    return [{"epoch": v.epoch} | {metric: getattr(v, metric) for metric in METRICS} for v in validations]


def curves(validations: list[Validation], runs: Sequence[int], seeds: Sequence[int], suffix: str) -> Curves:
    """Return the curve of each metric and seed, by its name in TensorBoard."""
    return {
        f"{metric}_seed{seed}{suffix}": [(v.epoch, values[run]) for v in validations if (values := getattr(v, metric))]
        for metric in METRICS
        for seed, run in zip(seeds, runs)
    }

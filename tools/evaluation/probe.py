"""Train the linear probe: a Linear on frozen features (docs/method.md, 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.evaluation.metrics import top_k_accuracy
from tools.training.recipes import ClassifierRecipe, rate_at
from utils.errors import UserError
from utils.files import summary
from utils.logs import progress


class LinearProbe:
    """Train Linears on features (N, D) and labels (N,), one per learning rate and seed, all at once.

    `lrs` replace the recipe's learning rate. Initial weights and the order of visits depend only on a run's seed, and
    every update is elementwise, so each run gives the same result as alone. Runs of one seed visit the same features,
    which are read once.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        num_classes: int,
        recipe: ClassifierRecipe,
        seeds: Sequence[int],
        lrs: Sequence[float] = (),
    ):
        self.features, self.labels, self.num_classes, self.recipe = features, labels, num_classes, recipe
        self.lrs = tuple(lrs) or (recipe.lr,)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = num_classes, features.shape[1]
        start = torch.stack([0.01 * torch.randn(*shape, generator=g) for g in self._generators])
        # One weight and bias per learning rate: (seeds, classes, D) and (seeds, classes).
        self._weights: list[Tensor] = [nn.Parameter(start.to(features.device, copy=True)) for _ in self.lrs]
        self._biases: list[Tensor] = [
            nn.Parameter(torch.zeros(len(seeds), num_classes, device=features.device)) for _ in self.lrs
        ]

    @property
    def weight(self) -> Tensor:
        """Return the weights (runs, classes, D), ordered by learning rate, then by seed."""
        return torch.cat(self._weights).detach()

    @property
    def bias(self) -> Tensor:
        """Return the biases (runs, classes)."""
        return torch.cat(self._biases).detach()

    def train(self) -> Iterator[tuple[int, list[float]]]:
        """Train, and yield whenever a validation is due: the epochs done and each run's loss in the last one. Raises
        UserError if a loss is not finite."""
        recipe = self.recipe
        groups = [{"params": pair, "lr": lr} for *pair, lr in zip(self._weights, self._biases, self.lrs)]
        optimizer = torch.optim.SGD(groups, momentum=recipe.momentum)
        for epoch in progress(range(1, recipe.epochs + 1), desc="probe", unit="epoch"):
            for group, lr in zip(optimizer.param_groups, self.lrs):
                group["lr"] = rate_at(lr, recipe.milestones, epoch - 1)
            order = torch.stack([torch.randperm(len(self.features), generator=g) for g in self._generators])
            batches = order.to(self.features.device).split(recipe.batch_size, dim=1)
            losses = [self._step(rows, optimizer) for rows in batches]
            if epoch % recipe.validate_every == 0 or epoch == recipe.epochs:
                loss = torch.stack(losses).mean(0)
                if not loss.isfinite().all():
                    raise UserError(f"the loss of epoch {epoch} is not finite, so the probe stops: lower --lr")
                yield epoch, loss.tolist()

    def _step(self, rows: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """Train one step on each seed's `rows` (seeds, B). Return the loss of each run."""
        num_lrs = len(self.lrs)
        batch = self.features.index_select(0, rows.flatten()).view(*rows.shape, -1)
        logits = torch.baddbmm(torch.cat(self._biases, 1).unsqueeze(1), batch, torch.cat(self._weights, 1).mT)
        logits = logits.unflatten(2, (num_lrs, self.num_classes)).permute(2, 0, 1, 3)
        targets = self.labels[rows].expand(num_lrs, -1, -1).flatten()
        loss = F.cross_entropy(logits.flatten(0, 2), targets, reduction="none")
        per_run = loss.view(num_lrs * len(rows), -1).mean(1)
        optimizer.zero_grad()
        per_run.sum().backward()
        optimizer.step()
        return per_run.detach()

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (runs, N, classes) of features (N, D)."""
        return torch.stack([features @ w.T + b for w, b in zip(self.weight, self.bias)])


@dataclass(frozen=True)
class Validation:
    """The runs' scores after `epoch` epochs, one value per run: top-1 and top-5 in %, and the last epoch's mean
    loss."""

    epoch: int
    top1: list[float]
    top5: list[float]
    loss: list[float]


def train_probes(
    probes: Mapping[str, LinearProbe], val: Mapping[str, Tensor], labels: Tensor, fusions: Mapping[str, Sequence[str]]
) -> dict[str, list[Validation]]:
    """Train probes in parallel, and validate them on the features `val` (N, D) of the same names, with `labels` (N,).

    Return the validations, in the order of epochs, of each probe and of each late fusion: the sum of the named probes'
    logits.
    """
    validations: dict[str, list[Validation]] = {name: [] for name in (*probes, *fusions)}
    for due in zip(*(probe.train() for probe in probes.values())):
        losses = dict(zip(probes, (loss for _, loss in due)))
        logits = {name: probe.logits(val[name]) for name, probe in probes.items()}
        for name, parts in fusions.items():
            logits[name] = torch.stack([logits[part] for part in parts]).sum(0)
        for name, runs in logits.items():
            top1, top5 = ([top_k_accuracy(run, labels, k) for run in runs] for k in (1, 5))
            validations[name].append(Validation(due[0][0], top1, top5, losses.get(name, [])))
    return validations


def best_and_last(validations: list[Validation], runs: Sequence[int]) -> dict[str, Any]:
    """Summarise, over `runs` of several seeds, the last validation and each run's best by top-1."""
    best = [max(validations, key=lambda v: v.top1[run]) for run in runs]
    chosen = {"last": [validations[-1]] * len(runs), "best": best}
    return {
        f"{which}_{metric}": summary([getattr(v, metric)[run] for v, run in zip(chosen[which], runs)])
        for which in chosen
        for metric in ("top1", "top5")
    }

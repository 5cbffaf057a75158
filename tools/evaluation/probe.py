"""Train the linear probe: a Linear on frozen features (docs/method.md, 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.recipes import ClassifierRecipe
from tools.evaluation.scores import Validation
from tools.utils.errors import UserError
from tools.utils.logs import progress
from tools.utils.metrics import class_accuracies, top_k_accuracy


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
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(recipe.schedule), gamma=0.1)
        for epoch in progress(range(1, recipe.epochs + 1), desc="probe", unit="epoch"):
            order = torch.stack([torch.randperm(len(self.features), generator=g) for g in self._generators])
            batches = order.to(self.features.device).split(recipe.batch_size, dim=1)
            losses = [self._step(rows, optimizer) for rows in batches]
            schedule.step()
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

    def scores(self, features: Tensor) -> Tensor:
        """Return scores (runs, N, classes) of features (N, D)."""
        return torch.stack([features @ w.T + b for w, b in zip(self.weight, self.bias)])


def train_probes(
    probes: Mapping[str, LinearProbe], val: Mapping[str, Tensor], labels: Tensor, fused: Mapping[str, list[str]]
) -> dict[str, list[Validation]]:
    """Train probes in parallel, and validate them on the features `val` (N, D) of the same names, with `labels` (N,).

    Return the validations, in the order of epochs, of each probe and of each late fusion in `fused`: the sum of the
    named probes' scores.
    """
    found: dict[str, list[Validation]] = {name: [] for name in (*probes, *fused)}
    for due in zip(*(probe.train() for probe in probes.values())):
        epoch = due[0][0]
        losses = dict(zip(probes, (loss for _, loss in due)))
        scores = {name: probe.scores(val[name]) for name, probe in probes.items()}
        for name, streams in fused.items():
            scores[name] = sum((scores[s] for s in streams[1:]), scores[streams[0]])
        for name, runs in scores.items():
            found[name].append(_validation(epoch, runs, labels, losses.get(name, [])))
    return found


def _validation(epoch: int, scores: Tensor, labels: Tensor, loss: list[float]) -> Validation:
    return Validation(
        epoch,
        [top_k_accuracy(run, labels, 1) for run in scores],
        [top_k_accuracy(run, labels, 5) for run in scores],
        loss,
        [class_accuracies(run.argmax(1), labels, scores.shape[2]) for run in scores],
    )

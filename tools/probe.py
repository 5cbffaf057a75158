"""The linear probe: a Linear trained on frozen features (docs/method.md, 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.logs import progress
from tools.metrics import top_k_accuracy


@dataclass(frozen=True)
class ProbeOptions:
    """The published recipe, with its one learning rate."""

    rates: tuple[float, ...] = (0.03,)
    epochs: int = 150
    schedule: tuple[int, ...] = (120, 140)
    batch_size: int = 512
    momentum: float = 0.9
    validate_every: int = 5


@dataclass(frozen=True)
class Validation:
    """Accuracies in % after `epoch` epochs, one a run: for each learning rate one a seed."""

    epoch: int
    top1: list[float]
    top5: list[float]
    loss: list[float]


def linear_probe(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    num_classes: int,
    options: ProbeOptions,
    seeds: list[int],
) -> list[Validation]:
    """Train one Linear a learning rate and seed, all at once, on (features (N, D), labels (N,)); validations, the
    last one last.

    A run's initial weights and order of visits depend on its seed alone, and every update is elementwise, so
    each run gives what it would give by itself. Runs of one seed visit the same features, which are read once.
    """
    features, labels = train
    device, size = features.device, len(features)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    start = torch.stack([0.01 * torch.randn(num_classes, features.shape[1], generator=g) for g in generators])
    # One of each for each rate: (seeds, classes, D) and (seeds, classes).
    weights: list[Tensor] = [nn.Parameter(start.to(device, copy=True)) for _ in options.rates]
    biases: list[Tensor] = [nn.Parameter(torch.zeros(len(seeds), num_classes, device=device)) for _ in options.rates]
    groups = [{"params": pair, "lr": lr} for *pair, lr in zip(weights, biases, options.rates)]
    optimizer = torch.optim.SGD(groups, momentum=options.momentum)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(options.schedule), gamma=0.1)
    validations = []
    for epoch in progress(range(1, options.epochs + 1), desc="probe", unit="epoch"):
        order = torch.stack([torch.randperm(size, generator=g) for g in generators]).to(device)
        losses = []
        for rows in order.split(options.batch_size, dim=1):
            batch = features.index_select(0, rows.flatten()).view(*rows.shape, -1)
            logits = torch.baddbmm(torch.cat(biases, 1).unsqueeze(1), batch, torch.cat(weights, 1).mT)
            logits = logits.unflatten(2, (len(weights), num_classes)).permute(2, 0, 1, 3)
            targets = labels[rows].expand(len(weights), -1, -1).flatten()
            loss = F.cross_entropy(logits.flatten(0, 2), targets, reduction="none")
            per_run = loss.view(len(weights) * len(seeds), -1).mean(1)
            optimizer.zero_grad()
            per_run.sum().backward()
            optimizer.step()
            losses.append(per_run.detach())
        schedule.step()
        if epoch % options.validate_every == 0 or epoch == options.epochs:
            classifiers = torch.cat(weights).detach(), torch.cat(biases).detach()
            top1, top5 = _validate(*classifiers, *val)
            validations.append(Validation(epoch, top1, top5, torch.stack(losses).mean(0).tolist()))
    return validations


def _validate(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor) -> tuple[list[float], list[float]]:
    scores = [features @ w.T + b for w, b in zip(weight, bias)]
    return [top_k_accuracy(s, labels, 1) for s in scores], [top_k_accuracy(s, labels, 5) for s in scores]

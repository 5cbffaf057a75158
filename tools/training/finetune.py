"""Fine-tuning: the encoder and a new Linear, trained together on labels (docs/method.md, 7)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.augment import evaluation_view
from feeder.clips import ClipDataset
from feeder.modalities import ModalityTokens
from feeder.sampling import epoch_order, share
from models.encoder import Backbone
from models.finetune_model import FinetuneModel
from tools.evaluation.metrics import in_top_k
from tools.utils.distributed import Processes, all_reduce_sum, distribute
from tools.utils.errors import UserError
from tools.utils.logs import progress
from tools.utils.precision import autocast

VALIDATION_BATCH = 256


@dataclass(frozen=True)
class FinetuneOptions:
    """The published recipe. `batch_size`, the largest batch there is, is global; `amp` is the precision of the model,
    `bf16`, `fp16` or `off`."""

    lr: float = 0.01
    epochs: int = 80
    schedule: tuple[int, ...] = (50, 70)
    batch_size: int = 64
    momentum: float = 0.9
    validate_every: int = 5
    amp: str = "off"


class Score(NamedTuple):
    """One run after `epoch` epochs: accuracies in % and the epoch's mean loss."""

    epoch: int
    top1: float
    top5: float
    loss: float


def new_classifier(
    backbone: Backbone, modalities: tuple[str, ...], num_classes: int, seed: int, from_scratch: bool = False
) -> FinetuneModel:
    """A copy of the encoder, or with `from_scratch` a fresh one of its width, and a Linear; both by the seed."""
    if from_scratch:
        torch.manual_seed(seed)
        encoder = Backbone(backbone.hidden_size, layout=backbone.layout)
    else:
        encoder = deepcopy(backbone)
    return FinetuneModel(encoder, modalities, num_classes, torch.Generator().manual_seed(seed))


class Finetuner:
    """One run: a classifier, its optimiser and the recordings that both sides are taken from.

    Every process holds the same model and computes its share of each batch. The order of visits is a function of
    (seed, epoch), so any number of processes train as one does.
    """

    def __init__(
        self, model: FinetuneModel, source: ClipDataset, options: FinetuneOptions, seed: int, procs: Processes
    ):
        self.model, self.source, self.options, self.seed, self.procs = model, source, options, seed, procs
        self.parallel = distribute(model, procs)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, options.lr, momentum=options.momentum)
        self.scaler = torch.amp.GradScaler(procs.device.type, enabled=options.amp == "fp16")
        self.view, self.tokens = evaluation_view(), ModalityTokens(source.layout).to(procs.device)

    def train_epoch(self, rows: Tensor, epoch: int) -> float:
        """One pass over the recordings at `rows` of the source, epochs counted from 0; returns the mean loss. Raises
        UserError where that is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * 0.1 ** sum(epoch >= at for at in self.options.schedule)
        self.parallel.train()
        losses = torch.zeros((), device=self.procs.device)
        # As equal as they can be: a last batch of a few recordings would be as many steps as a full one.
        count = -(-len(rows) // self.options.batch_size)
        for batch in rows[epoch_order(len(rows), self.seed, epoch)].tensor_split(count):
            losses += self.train_step(batch)
        loss = all_reduce_sum(losses).item() / len(rows)
        if not abs(loss) < float("inf"):
            raise _not_finite(f"the loss of epoch {epoch}")
        return loss

    def train_step(self, batch: Tensor) -> Tensor:
        """Train on the global batch; returns the sum of this process's losses."""
        mine = batch[share(len(batch), self.procs.rank, self.procs.world_size)]
        scores, labels = self._scores(self.parallel, mine)
        losses = F.cross_entropy(scores, labels, reduction="sum")
        # The processes' gradients are averaged: so it is that of the global batch's mean, however unequal the shares.
        loss = losses * (self.procs.world_size / len(batch))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return losses.detach()

    @torch.no_grad()
    def validate(self, rows: Tensor) -> tuple[float, float]:
        """Top-1 and top-5 accuracy in % on the recordings at `rows`, which the processes share. Raises UserError where
        a score is not finite."""
        self.model.eval()
        mine = rows[share(len(rows), self.procs.rank, self.procs.world_size)]
        counts = torch.zeros(3, dtype=torch.int64, device=self.procs.device)
        for batch in mine.split(VALIDATION_BATCH):
            scores, labels = self._scores(self.model, batch)
            right = in_top_k(scores, labels, 1), in_top_k(scores, labels, 5), scores.isfinite().all(1)
            counts += torch.stack(right).sum(1)
        top1, top5, finite = all_reduce_sum(counts).tolist()
        if finite < len(rows):
            raise _not_finite("a validation score")
        return 100.0 * top1 / len(rows), 100.0 * top5 / len(rows)

    def _scores(self, model: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, float32, and labels of whole clips."""
        device, rows = self.procs.device, rows.to(self.source.device)
        clip = self.view(self.source.clips(rows)).to(device, non_blocking=True)
        with autocast(self.options.amp, device):
            scores = model(self.tokens(clip, self.model.modalities)).float()
        return scores, self.source.label[rows].to(device, non_blocking=True)


def finetune(
    model: FinetuneModel,
    source: ClipDataset,
    train: Tensor,
    val: Tensor,
    options: FinetuneOptions,
    seed: int,
    procs: Processes,
    title: str = "finetune",
) -> list[Score]:
    """Train the model on the recordings at `train`, int64 rows of the source, and validate it on those at `val` after
    every fifth epoch and the last. `title` is the progress bar's. Raises UserError where a loss is not finite."""
    tuner = Finetuner(model.to(procs.device), source, options, seed, procs)
    scores = []
    for epoch in progress(range(options.epochs), desc=title, unit="epoch", disable=not procs.is_main):
        loss = tuner.train_epoch(train, epoch)
        done = epoch + 1
        if done % options.validate_every == 0 or done == options.epochs:
            scores.append(Score(done, *tuner.validate(val), loss))
    return scores


def _not_finite(what: str) -> UserError:
    return UserError(f"{what} is not finite, so fine-tuning stops: lower --lr, or use --amp bf16 or off")

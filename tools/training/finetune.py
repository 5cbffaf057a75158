"""Fine-tuning: the encoder and a new Linear, trained together on labels (docs/method.md, 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.recipes import ClassifierRecipe
from feeder.clips import ClipDataset, evaluation_view
from feeder.modalities import ModalityTokens, Tokens
from feeder.sampling import epoch_order, share
from models.encoder import Backbone
from models.finetune_model import FinetuneModel
from tools.training.compiling import StaticCompiler, sizes_to_compile
from tools.utils.distributed import Processes, all_reduce_sum, distribute
from tools.utils.errors import UserError
from tools.utils.logs import progress
from tools.utils.metrics import in_top_k
from tools.utils.precision import autocast

VALIDATION_BATCH = 256


class Score(NamedTuple):
    """A run after `epoch` epochs: top-1 and top-5 accuracy in %, and the epoch's mean loss."""

    epoch: int
    top1: float
    top5: float
    loss: float


def new_classifier(
    backbone: Backbone, modalities: tuple[str, ...], num_classes: int, seed: int, from_scratch: bool = False
) -> FinetuneModel:
    """Put a new Linear on a copy of the encoder, or with `from_scratch` on a fresh encoder of the same width. The seed
    decides all initial weights."""
    if from_scratch:
        torch.manual_seed(seed)
        encoder = Backbone(backbone.hidden_size, layout=backbone.layout)
    else:
        encoder = deepcopy(backbone)
    return FinetuneModel(encoder, modalities, num_classes, torch.Generator().manual_seed(seed))


class Finetuner:
    """One run: a model, its optimiser and the recordings of both sides. `amp` is the precision of the model: `bf16`,
    `fp16` or `off`; `compiling` is --compile's choice.

    Every process holds the same model and computes its share of each batch. The order of visits depends on the seed and
    the epoch alone, so any number of processes train as one does.
    """

    def __init__(
        self,
        model: FinetuneModel,
        source: ClipDataset,
        recipe: ClassifierRecipe,
        seed: int,
        procs: Processes,
        amp: str = "off",
        compiling: str = "off",
    ):
        self.model, self.source, self.recipe, self.seed, self.procs, self.amp = model, source, recipe, seed, procs, amp
        self.compiling, self.compiler = compiling, StaticCompiler(set())
        self.parallel: nn.Module = model
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, recipe.lr, momentum=recipe.momentum)
        self.scaler = torch.amp.GradScaler(procs.device.type, enabled=amp == "fp16")
        self.tokens = ModalityTokens(source.layout).to(procs.device)

    def prepare(self, rows: Tensor) -> None:
        """Compile what is worth it for training on `rows`, and wrap the model for several processes."""
        sizes = [len(self._mine(batch)) for batch in self._batches(rows)]
        steps = Counter({size: n * self.recipe.epochs for size, n in Counter(sizes).items()})
        self.compiler = StaticCompiler(sizes_to_compile(self.compiling, self.procs.device, steps))
        with autocast(self.amp, self.procs.device):
            self.compiler.compile(
                self.model, "forward", self.model, lambda size: (self._stream(rows[:size]),), lambda y: y.float().sum()
            )
        self.parallel = distribute(self.model, self.procs)

    def train_epoch(self, rows: Tensor, epoch: int) -> float:
        """Train once on each recording at `rows` of the source; returns their mean loss. Epochs count from 0. Raises
        UserError where the loss is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * 0.1 ** sum(epoch >= at for at in self.recipe.schedule)
        self.parallel.train()
        losses = torch.zeros((), device=self.procs.device)
        for batch in self._batches(rows[epoch_order(len(rows), self.seed, epoch)].to(self.source.device)):
            losses += self.train_step(batch)
        loss = all_reduce_sum(losses).item() / len(rows)
        if not abs(loss) < float("inf"):
            raise _not_finite(f"the loss of epoch {epoch}")
        return loss

    def train_step(self, batch: Tensor) -> Tensor:
        """Train on the global batch, rows of the source; returns the sum of this process's losses."""
        mine = self._mine(batch)
        with self.compiler.stance(len(mine)):
            scores, labels = self._scores(self.parallel, mine)
        losses = F.cross_entropy(scores, labels, reduction="sum")
        # The processes' gradients are averaged. Scaled like this, their average is the gradient of the global batch's
        # mean loss, however unequal the shares.
        loss = losses * (self.procs.world_size / len(batch))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return losses.detach()

    @torch.no_grad()
    def validate(self, rows: Tensor) -> tuple[float, float]:
        """Compute top-1 and top-5 accuracy in % on the recordings at `rows`, which the processes share. Raises
        UserError where a score is not finite."""
        self.model.eval()
        mine = self._mine(rows.to(self.source.device))
        counts = torch.zeros(3, dtype=torch.int64, device=self.procs.device)
        for batch in mine.split(VALIDATION_BATCH):
            with self.compiler.stance(0):
                scores, labels = self._scores(self.model, batch)
            right = in_top_k(scores, labels, 1), in_top_k(scores, labels, 5), scores.isfinite().all(1)
            counts += torch.stack(right).sum(1)
        top1, top5, finite = all_reduce_sum(counts).tolist()
        if finite < len(rows):
            raise _not_finite("a validation score")
        return 100.0 * top1 / len(rows), 100.0 * top5 / len(rows)

    def _scores(self, model: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, float32, and labels of whole clips at `rows`, int64 on the source's device."""
        with autocast(self.amp, self.procs.device):
            scores = model(self._stream(rows)).float()
        return scores, self.source.label[rows].to(self.procs.device, non_blocking=True)

    def _stream(self, rows: Tensor) -> dict[str, Tokens]:
        clip = evaluation_view(self.source.clips(rows)).to(self.procs.device, non_blocking=True)
        return self.tokens(clip, self.model.modalities)

    def _batches(self, rows: Tensor) -> Sequence[Tensor]:
        """Batches of nearly equal size: a last one of a few recordings would be a step as large as any other."""
        return rows.tensor_split(-(-len(rows) // self.recipe.batch_size))

    def _mine(self, rows: Tensor) -> Tensor:
        """This process's share."""
        return rows[share(len(rows), self.procs.rank, self.procs.world_size)]


def finetune(
    model: FinetuneModel,
    source: ClipDataset,
    train: Tensor,
    val: Tensor,
    recipe: ClassifierRecipe,
    seed: int,
    procs: Processes,
    amp: str = "off",
    compiling: str = "off",
    title: str = "finetune",
) -> list[Score]:
    """Train the model on the recordings at `train`, int64 rows of the source, and validate it on those at `val` as the
    recipe says. `title` is the progress bar's. Raises UserError where a loss or score is not finite."""
    tuner = Finetuner(model.to(procs.device), source, recipe, seed, procs, amp, compiling)
    tuner.prepare(train.to(source.device))
    scores = []
    bar = progress(range(recipe.epochs), desc=title, unit="epoch", disable=not procs.is_main)
    for epoch in bar:
        loss = tuner.train_epoch(train, epoch)
        done = epoch + 1
        if done % recipe.validate_every == 0 or done == recipe.epochs:
            scores.append(Score(done, *tuner.validate(val), loss))
            bar.set_postfix_str(f"top-1 {scores[-1].top1:.1f} %", refresh=False)
    return scores


def _not_finite(what: str) -> UserError:
    return UserError(f"{what} is not finite, so fine-tuning stops: lower --lr, or use --amp bf16 or off")

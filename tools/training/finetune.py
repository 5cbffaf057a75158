"""Fine-tune: train the encoder and a new Linear together on labels (docs/method.md, 7)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.recipes import ClassifierRecipe
from feeder.clips import ClipDataset, evaluation_view
from feeder.modalities import ModalityTokens, Tokens
from feeder.sampling import epoch_order, share
from models.encoder import Backbone
from models.finetune_model import FinetuneModel
from models.loading import CheckpointError, check_tensors
from tools.training.compiling import StaticCompiler, sizes_to_compile
from tools.training.schedule import set_learning_rate
from tools.training.signals import StopSignal
from tools.training.unfinished import Keeper, Stopped
from tools.utils.distributed import Processes, all_reduce_sum, distribute
from tools.utils.errors import UserError
from tools.utils.logs import progress
from tools.utils.metrics import in_top_k
from tools.utils.precision import autocast

VALIDATION_BATCH = 256


class Score(NamedTuple):
    """A run's scores after `epoch` epochs: top-1 and top-5 accuracy in %, and the last epoch's mean loss."""

    epoch: int
    top1: float
    top5: float
    loss: float

    @classmethod
    def of(cls, values: Sequence[Any]) -> Score:
        """Check values read from a file. Raises ValueError or TypeError if they are no score."""
        score = cls(*values)
        if type(score.epoch) is not int or not all(type(value) is float for value in score[1:]):
            raise ValueError(f"no score: {values}")
        return score


def new_classifier(
    backbone: Backbone, modalities: tuple[str, ...], num_classes: int, seed: int, from_scratch: bool = False
) -> FinetuneModel:
    """Join a new Linear and a copy of the encoder, or with `from_scratch` an untrained encoder of the same width. The
    seed decides all initial weights."""
    if from_scratch:
        torch.manual_seed(seed)
        encoder = Backbone(backbone.hidden_size, layout=backbone.layout)
    else:
        encoder = deepcopy(backbone)
    return FinetuneModel(encoder, modalities, num_classes, torch.Generator().manual_seed(seed))


class Finetuner:
    """Train one model: hold it, its optimiser and the `source` of recordings. `amp` is the model's precision (`bf16`,
    `fp16` or `off`), `compiling` the value of --compile.

    Every process holds the same model and computes its share of each batch. The order of visits depends on the seed and
    the epoch alone, so any number of processes train as one does. `state` is all that a step changes.
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
        self.model, self.source, self.recipe, self.seed = model.to(procs.device), source, recipe, seed
        self.procs, self.amp, self.compiling, self.compiler = procs, amp, compiling, StaticCompiler(set())
        self.parallel: nn.Module = model
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, recipe.lr, momentum=recipe.momentum)
        self.scaler = torch.amp.GradScaler(procs.device.type, enabled=amp == "fp16")
        self.tokens = ModalityTokens(source.layout).to(procs.device)
        self.epoch = 0  # epochs done
        self.step = 0  # steps done of the next one
        self.losses = torch.zeros((), device=procs.device)  # their sum over this process's recordings
        self.scores: list[Score] = []  # of the validations so far
        self.best: dict[str, Tensor] = {}  # the model's weights at the best of them, on the CPU

    def compile_and_distribute(self, rows: Tensor) -> None:
        """Compile where it saves time for training on `rows`, and wrap the model for several processes."""
        sizes = [len(self._mine(batch)) for batch in self._batches(rows)]
        self.compiler = StaticCompiler(sizes_to_compile(self.compiling, self.procs.device, sizes, self.recipe.epochs))
        if self.compiler.sizes:
            with autocast(self.amp, self.procs.device):
                compiled = self.compiler.compile(
                    self.model.forward, self.model, lambda size: self._stream(rows[:size]), lambda y: y.float().sum()
                )
            self.model.forward = compiled  # type: ignore[method-assign]
        self.parallel = distribute(self.model, self.procs)

    def train_epoch(self, rows: Tensor, stop: StopSignal | None = None) -> float | None:
        """Train one epoch on the recordings at `rows` of the source, or the rest of a stopped one. Return the mean
        loss, or None if `stop` came first. Raises UserError if the loss is not finite."""
        set_learning_rate(self.optimizer, self.recipe.lr, self.recipe.schedule, self.epoch)
        self.parallel.train()
        batches = self._batches(rows[epoch_order(len(rows), self.seed, self.epoch)].to(self.source.device))
        while self.step < len(batches):
            self.losses += self.train_step(batches[self.step])
            self.step += 1
            if stop and stop.agreed_at(self.step % len(batches), self.procs):  # at an epoch's end, however short, too
                return None
        loss = all_reduce_sum(self.losses).item() / len(rows)
        if not abs(loss) < float("inf"):
            raise _not_finite(f"the loss of epoch {self.epoch}")
        self.epoch, self.step, self.losses = self.epoch + 1, 0, torch.zeros_like(self.losses)
        return loss

    def train_step(self, batch: Tensor) -> Tensor:
        """Train on the global batch, rows of the source. Return the sum of this process's losses."""
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

    def score(self, rows: Tensor, loss: float) -> Score:
        """Validate on the recordings at `rows` after an epoch with this loss. Store the score, and the weights if they
        are the best so far. Raises UserError if a score is not finite."""
        top1, top5 = self.validate(rows)
        score = Score(self.epoch, top1, top5, loss)
        if all(score.top1 > earlier.top1 for earlier in self.scores):
            self.best = {key: value.cpu().clone() for key, value in self.model.state_dict().items()}
        self.scores.append(score)
        return score

    @torch.no_grad()
    def validate(self, rows: Tensor) -> tuple[float, float]:
        """Compute top-1 and top-5 accuracy in % on the recordings at `rows`, split among the processes. Raises
        UserError if a score is not finite."""
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

    def state(self) -> dict[str, Any]:
        """Return all state that a step changes, as tensors and plain values."""
        trained = [(name, p) for name, p in self.model.named_parameters() if p in self.optimizer.state]
        return {
            "epoch": self.epoch,
            "step": self.step,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "momentum": {name: self.optimizer.state[p]["momentum_buffer"] for name, p in trained},
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "scores": [list(score) for score in self.scores],
        }

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Resume from a `state` read from `path`, before `compile_and_distribute`. Raises CheckpointError if it is
        not of this run."""
        try:
            epoch, step, losses = state["epoch"], state["step"], state["losses"]
            model = self.model.state_dict()
            trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
            check_tensors(state["model"], model, path)
            check_tensors(state["momentum"], trained, path)
            check_tensors(state["best"], model if state["best"] else {}, path)
            check_tensors({"losses": losses}, {"losses": self.losses}, path)
            scores = [Score.of(values) for values in state["scores"]]
            if not (type(epoch) is type(step) is int and 0 <= epoch < self.recipe.epochs and step >= 0):
                raise ValueError(f"epoch {epoch}, step {step}")
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path} is not what fine-tuning left: {error}") from error
        self.model.load_state_dict(state["model"])
        for name, parameter in trained.items():
            self.optimizer.state[parameter]["momentum_buffer"] = state["momentum"][name].to(parameter.device).clone()
        self.epoch, self.step, self.scores, self.best = epoch, step, scores, state["best"]
        if self.procs.is_main:  # the sum of all processes
            self.losses = losses.to(self.procs.device)

    def _scores(self, model: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores, float32, and labels of the whole clips at `rows`, int64 on the source's device."""
        with autocast(self.amp, self.procs.device):
            scores = model(self._stream(rows)).float()
        return scores, self.source.label[rows].to(self.procs.device, non_blocking=True)

    def _stream(self, rows: Tensor) -> dict[str, Tokens]:
        clip = evaluation_view(self.source.clips(rows)).to(self.procs.device, non_blocking=True)
        return self.tokens(clip, self.model.modalities)

    def _batches(self, rows: Tensor) -> Sequence[Tensor]:
        """Split into batches of nearly equal size: a small last batch would make a step as large as any other."""
        return rows.tensor_split(-(-len(rows) // self.recipe.batch_size))

    def _mine(self, rows: Tensor) -> Tensor:
        """Return this process's share."""
        return rows[share(len(rows), self.procs.rank, self.procs.world_size)]


def finetune(
    tuner: Finetuner, train: Tensor, val: Tensor, title: str = "finetune", keeper: Keeper | None = None
) -> list[Score]:
    """Train on the recordings at `train`, int64 rows of the source, and validate on those at `val`, as the recipe says.
    Return the scores of the validations.

    `title` is the progress bar's. A `keeper` saves the state at validations and after a signal, and resumes from it.
    Raises UserError if a loss or score is not finite, Stopped after a signal.
    """
    epochs, is_main = tuner.recipe.epochs, tuner.procs.is_main
    if keeper:
        keeper.restore(tuner)
    tuner.compile_and_distribute(train.to(tuner.source.device))
    left = range(tuner.epoch, epochs)
    bar = progress(left, desc=title, unit="epoch", initial=tuner.epoch, total=epochs, disable=not is_main)
    for _ in bar:
        loss = tuner.train_epoch(train, keeper.stop if keeper else None)
        if loss is None:
            assert keeper
            keeper.save(tuner, stopped=True)
            raise Stopped
        if tuner.epoch % tuner.recipe.validate_every == 0 or tuner.epoch == epochs:
            score = tuner.score(val, loss)
            bar.set_postfix_str(f"top-1 {score.top1:.1f} %", refresh=False)
            if keeper and tuner.epoch < epochs:
                keeper.save(tuner)
    return tuner.scores


def _not_finite(what: str) -> UserError:
    return UserError(f"{what} is not finite, so fine-tuning stops: lower --lr, or use --amp bf16 or off")

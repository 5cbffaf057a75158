"""Fine-tune: train the encoder and a new Linear together on all labels or few (docs/method.md, 7)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.datasets import classes_of
from feeder.clips import ClipDataset, ResampleClip
from feeder.modalities import Stream, derive, name_of
from feeder.sampling import epoch_order, share
from models import ENCODERS, checkpoints
from models.checkpoints import CLASSIFIER, hash_of
from tools.evaluation.classifier import FinetuneModel
from tools.evaluation.label_subsets import stratified
from tools.evaluation.metrics import top_k_hits
from tools.evaluation.setup import Evaluation, stem_of, unused_path
from tools.training.acceleration import autocast, compile_for, sizes_to_compile
from tools.training.recipes import ClassifierRecipe, rate_at
from utils.errors import UserError
from utils.files import read_results
from utils.logs import progress
from utils.processes import Processes, all_reduce_sum, distribute
from utils.text import counted

log = logging.getLogger("umurl")
VALIDATION_BATCH = 256


class Score(NamedTuple):
    """A run's scores after `epoch` epochs: top-1 and top-5 accuracy in %, and the last epoch's mean loss."""

    epoch: int
    top1: float
    top5: float
    loss: float


class Finetuner:
    """Train one model on recordings of `source`; its `encoder` takes `modalities`, alone or fused.

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
    ):
        self.model, self.source, self.recipe, self.seed = model.to(procs.device), source, recipe, seed
        self.procs, self.amp = procs, amp
        self.parents = torch.tensor(source.layout.skeleton.parents, device=procs.device)
        self._freeze_unused()
        self.compute = model.forward  # or its compiled form
        self.parallel: nn.Module = model
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, recipe.lr, momentum=recipe.momentum)
        self.scaler = torch.amp.GradScaler(procs.device.type, enabled=amp == "fp16")
        self.best: dict[str, Tensor] = {}  # the weights at the best validation, on the CPU

    def _freeze_unused(self) -> None:
        """Exclude from training the parts of the encoder that get no gradient from these modalities."""
        self.model(self.make_inputs(torch.arange(1, device=self.source.device))).sum().backward()
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter.grad is not None)
        self.model.zero_grad()

    def start(self, indices: Tensor, compiling: str) -> None:
        """Compile where it saves time for training on `indices`, and wrap the model for several processes."""
        sizes = [len(self._mine(batch)) for batch in self._batches(indices)]
        chosen = sizes_to_compile(compiling, self.procs.device, sizes, self.recipe.epochs)
        with autocast(self.amp, self.procs.device):
            self.model.forward = compile_for(  # type: ignore[method-assign]
                chosen,
                self.model.forward,
                self.model,
                lambda size: self.make_inputs(indices[:size].to(self.source.device)),
                lambda logits: logits.float().sum(),
            )
        self.parallel = distribute(self.model, self.procs)

    def train_epoch(self, indices: Tensor, epoch: int) -> float:
        """Train one epoch on the recordings at `indices` of the source. Return the mean loss."""
        self.optimizer.param_groups[0]["lr"] = rate_at(self.recipe.lr, self.recipe.milestones, epoch)
        self.parallel.train()
        losses = torch.zeros((), device=self.procs.device)
        for batch in self._batches(indices[epoch_order(len(indices), self.seed, epoch)].to(self.source.device)):
            losses += self.train_step(batch)
        loss = all_reduce_sum(losses, self.procs).item() / len(indices)
        if not math.isfinite(loss):
            raise UserError(f"the loss of epoch {epoch} is not finite: lower --lr, or use --amp bf16 or off")
        return loss

    def train_step(self, batch: Tensor) -> Tensor:
        """Train on the global batch, indices into the source. Return the sum of this process's losses."""
        logits, labels = self._logits(self.parallel, self._mine(batch))
        losses = F.cross_entropy(logits, labels, reduction="sum")
        # The processes' gradients are averaged. Scaled like this, their average is the gradient of the global batch's
        # mean loss, however unequal the shares.
        loss = losses * (self.procs.world_size / len(batch))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return losses.detach()

    @torch.no_grad()
    def validate(self, indices: Tensor) -> tuple[float, float]:
        """Compute top-1 and top-5 accuracy in % on the recordings at `indices`, shared among the processes."""
        self.model.eval()
        counts = torch.zeros(3, dtype=torch.int64, device=self.procs.device)
        for batch in self._mine(indices.to(self.source.device)).split(VALIDATION_BATCH):
            logits, labels = self._logits(self.model, batch)
            hits = top_k_hits(logits, labels, 1), top_k_hits(logits, labels, 5), logits.isfinite().all(1)
            counts += torch.stack(hits).sum(1)
        top1, top5, finite = all_reduce_sum(counts, self.procs).tolist()
        if finite < len(indices):
            raise UserError("a logit is not finite: lower --lr, or use --amp bf16 or off")
        return 100.0 * top1 / len(indices), 100.0 * top5 / len(indices)

    def make_inputs(self, indices: Tensor) -> dict[str, Tensor]:
        """Return the modalities of the whole recordings at `indices`."""
        clips = ResampleClip()(self.source.windows(indices)).to(self.procs.device, non_blocking=True)
        return derive(clips, self.model.modalities, self.parents)

    def _logits(self, model: nn.Module, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, float32, and labels of the recordings at `indices`."""
        with autocast(self.amp, self.procs.device):
            logits = model(self.make_inputs(indices)).float()
        return logits, self.source.label[indices].to(self.procs.device, non_blocking=True)

    def _batches(self, indices: Tensor) -> Sequence[Tensor]:
        """Split into batches of nearly equal size: a small last batch would make a step as large as any other."""
        return indices.tensor_split(-(-len(indices) // self.recipe.batch_size))

    def _mine(self, indices: Tensor) -> Tensor:
        """Return this process's share."""
        return indices[share(len(indices), self.procs.rank, self.procs.world_size)]


def train(tuner: Finetuner, train_indices: Tensor, val_indices: Tensor, title: str = "finetune") -> list[Score]:
    """Train on some recordings of the source, and validate on others, as the recipe says. Return the scores; the
    tuner keeps the weights of the best."""
    epochs = tuner.recipe.epochs
    scores: list[Score] = []
    for epoch in progress(range(epochs), desc=title, unit="epoch", disable=not tuner.procs.is_main):
        loss = tuner.train_epoch(train_indices, epoch)
        if (epoch + 1) % tuner.recipe.validate_every == 0 or epoch == epochs - 1:
            score = Score(epoch + 1, *tuner.validate(val_indices), loss)
            if all(score.top1 > earlier.top1 for earlier in scores):
                tuner.best = {key: value.cpu().clone() for key, value in tuner.model.state_dict().items()}
            scores.append(score)
    return scores


# ---- the runs of a command -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finetuning:
    """Fine-tune with every modality, fraction of the labels and seed, and write a result and models for each run. Runs
    that an earlier, interrupted command has finished are not repeated."""

    evaluation: Evaluation
    recipe: ClassifierRecipe
    procs: Processes
    amp: str
    compiling: str
    from_scratch: bool
    source: ClipDataset

    def task(self, fraction: float | None) -> str:
        """Return the task's name, with which the names of its files begin."""
        kind = "semi_supervised" if fraction else "finetune"
        return ("transfer" if kind == "finetune" else f"transfer_{kind}") if self.evaluation.is_transfer else kind

    def run(self, modality: str, fraction: float | None, seed: int, keep_models: bool) -> None:
        """Fine-tune once, unless results.jsonl has the run; `keep_models`: write the last and the best model."""
        evaluation, task = self.evaluation, self.task(fraction)
        (stream,) = evaluation.encoder.select(modality).streams
        modality = name_of([stream], evaluation.encoder.modalities)
        packed, indices = evaluation.packed, evaluation.indices["train"]
        labelled = stratified(packed.names[indices], packed.label[indices], fraction or 1.0, seed)
        settings = self.recipe.settings() | {"amp": self.amp, "seed": seed}
        settings |= {"label_fraction": fraction} if fraction else {}
        settings |= {"from_scratch": True} if self.from_scratch else {}
        title = f"{task}, {modality}, {100 * (fraction or 1):g} % ({counted(len(labelled), 'recording')}), seed {seed}"
        if self._is_done(task, modality, settings):
            log.info(f"{title}: in results.jsonl already")
            return
        tuner = self._make(stream, seed)
        train_indices = torch.from_numpy(indices[labelled])
        tuner.start(train_indices, self.compiling)
        scores = train(tuner, train_indices, torch.from_numpy(evaluation.indices["val"]), title)
        best = max(scores, key=lambda score: score.top1)
        log.info(f"{title}: last {scores[-1].top1:.2f} %, best {best.top1:.2f} % (chosen on the val split)")
        if self.procs.is_main:
            chosen = {"last": scores[-1], "best": best}
            metrics = {f"{which}_{m}": getattr(chosen[which], m) for which in chosen for m in ("top1", "top5")}
            files = self._write_models(tuner, task, modality, stream, settings, chosen) if keep_models else {}
            evaluation.add(task, modality, metrics, settings, files)
            which = f"_seed{seed}" + (f"_{fraction:g}" if fraction else "")
            stem = stem_of(task, modality)
            curves = {f"{m}{which}": [(s.epoch, getattr(s, m)) for s in scores] for m in ("top1", "top5", "loss")}
            evaluation.plot(stem, curves)

    def _is_done(self, task: str, modality: str, settings: dict[str, Any]) -> bool:
        evaluation = self.evaluation
        wanted = {"task": task, "modality": modality, **evaluation.result, "settings": evaluation.settings | settings}
        return any(all(r.get(k) == v for k, v in wanted.items()) for r in read_results(evaluation.folder))

    def _make(self, stream: Stream, seed: int) -> Finetuner:
        """Join a new Linear and a copy of the encoder, or an untrained encoder of its kind. The seed decides all
        initial weights."""
        encoder = deepcopy(self.evaluation.encoder.encoder)
        if self.from_scratch:
            spec = self.evaluation.encoder.state["encoder"]
            torch.manual_seed(seed)
            encoder = ENCODERS[spec["name"]](spec["hidden_size"], encoder.modalities, encoder.layout)
        encoder.requires_grad_(True)
        generator = torch.Generator().manual_seed(seed)
        model = FinetuneModel(encoder, stream, self.evaluation.packed.num_classes, generator)
        return Finetuner(model, self.source, self.recipe, seed, self.procs, self.amp)

    def _write_models(
        self,
        tuner: Finetuner,
        task: str,
        modality: str,
        stream: Stream,
        settings: dict[str, Any],
        chosen: dict[str, Score],
    ) -> dict[str, str]:
        """Write the model after the last epoch and the best one. Return the files' names."""
        stem = stem_of(task, modality) + (f"_{settings['label_fraction']:g}" if "label_fraction" in settings else "")
        files, folder = {}, self.evaluation.folder
        for which, name, weights in (("last", "model", tuner.model.state_dict()), ("best", "best_model", tuner.best)):
            path = unused_path(folder, stem + "_best" * (which == "best"), ".pth.tar")
            checkpoints.write(path, self._state(path.name, stream, weights, settings, chosen[which]))
            files[name] = path.name
            log.info(f"saved {path}")
        return files

    def _state(
        self, file: str, stream: Stream, weights: dict[str, Tensor], settings: dict[str, Any], score: Score
    ) -> dict[str, Any]:
        """Return a fine-tuned model's contents: a checkpoint of the encoder, with the classifier."""
        evaluation, state = self.evaluation, self.evaluation.encoder.state
        prefix = "encoder."
        own = {key: value.cpu() for key, value in weights.items() if key.startswith(prefix)}
        data = {key: evaluation.result[key] for key in ("dataset", "protocol")}
        scores = {"epochs": score.epoch, "top1": score.top1, "top5": score.top5}
        entries = ("encoder", "args", "dataset", "protocol", "recordings", "data", "centred", "epoch")
        return {
            **{key: state[key] for key in entries if key in state},
            **({"epoch": 0} if self.from_scratch else {}),
            "state_dict": own,
            CLASSIFIER: {
                "weight": weights["linear.weight"].cpu(),
                "bias": weights["linear.bias"].cpu(),
                "classes": classes_of(evaluation.packed),
                "modality": "+".join(stream),
                "checkpoint": file,
                "encoder": hash_of({key.removeprefix(prefix): value for key, value in own.items()}),
                **data,
            },
            "finetuned": {**data, "modalities": list(stream), "settings": settings, **scores},
            "versions": checkpoints.versions(),
        }

"""Train epochs and steps of a pre-training run; save its state and resume from it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from feeder.augment import make_view
from feeder.clips import NUM_FRAMES, ClipDataset
from feeder.modalities import derive
from feeder.sampling import epoch_order, global_batches, share
from models import LossWeights, checkpoints
from models.losses import Loss
from models.umurl import Method
from tools.training.acceleration import DTYPES, compile_for, sizes_to_compile
from tools.training.recipes import rate_at
from utils.errors import UserError
from utils.files import reading
from utils.processes import Processes, StopSignal, distribute

log = logging.getLogger("umurl")
READ_EVERY = 20  # steps between looks at the loss; each look waits for the GPU
# Arguments that a resumed run may change.
FREE = {"checkpoint_path", "data_root", "device", "compile", "epochs", "milestones", "resume", "save_freq", "keep"}
FREE |= {"knn_every", "recipe"}


@dataclass(frozen=True)
class Config:
    """The arguments of a pre-training run; flags of the same names explain them."""

    checkpoint_path: Path
    data_root: Path
    dataset: str
    protocol: str
    epochs: int
    milestones: tuple[int, ...]
    lr: float
    batch_size: int
    hidden_size: int
    save_freq: int
    weights: LossWeights = LossWeights()
    wd: float = 1e-5
    encoder: str = "transformer"
    method: str = "umurl"
    pretrain_modalities: tuple[str, ...] = ("joint", "bone", "motion")
    augment: str = "published"
    recipe: str = "published"
    amp: str = "off"
    compile: str = "auto"
    device: str = "auto"
    resume: str = "auto"
    keep: int | None = None
    knn_every: int | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values by the names of the flags."""
        values = {key: value for key, value in vars(self).items() if key != "weights"} | self.weights.flags()
        return {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in values.items()}


class Trainer:
    """Hold all state that a step changes: method, optimiser, scaler, meter, and the place in the run."""

    def __init__(self, config: Config, method: Method, dataset: ClipDataset, procs: Processes):
        self.config, self.dataset, self.procs = config, dataset, procs
        self.method = method.to(procs.device)
        self.optimizer = torch.optim.Adam(method.parameters(), config.lr, weight_decay=config.wd, fused=True)
        self.dtype = DTYPES.get(config.amp)  # None: float32
        self.scaler = torch.amp.GradScaler(procs.device.type, enabled=config.amp == "fp16")
        self.view = make_view(config.augment, dataset.layout)
        self.parents = torch.tensor(dataset.layout.skeleton.parents, device=procs.device)
        self.batches = global_batches(len(dataset), config.batch_size)
        self.epoch = 0  # epochs done
        self.step = 0  # steps done of the next one, where a signal stopped it
        self.meter = Meter()
        self.parallel: nn.Module = method
        self._try_view()

    def _try_view(self) -> None:
        try:
            shape = self.view(*self.dataset.views(torch.arange(1, device=self.dataset.device), 1, 0, 0)).shape
        except (TypeError, ValueError) as error:
            raise UserError(f"--augment {self.config.augment}: {error}") from error
        if shape[1] != NUM_FRAMES:
            raise UserError(f"--augment {self.config.augment}: clips have {shape[1]} frames after it, not {NUM_FRAMES}")

    # ---- training ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Compile where it saves time, and wrap the model for several processes. Call it after loading weights."""
        self.method.train()
        sizes = [share(batch.stop - batch.start, *self._place) for batch in self.batches]
        counts = [part.stop - part.start for part in sizes]
        chosen = sizes_to_compile(self.config.compile, self.procs.device, counts, self.config.epochs)
        if self.procs.world_size == 1:
            self.compute_loss = compile_for(  # type: ignore[method-assign]
                chosen, self.compute_loss, self.method, self._example, lambda loss: loss.total
            )
        else:
            # The projectors' batch norms and the loss talk to other processes, so the encoder is compiled alone.
            with torch.autocast(self.procs.device.type, self.dtype, enabled=self.dtype is not None):
                self.method.encode = compile_for(
                    chosen, self.method.encode, self.method, self._example, lambda y: torch.stack(y).float().sum()
                )
        self.parallel = distribute(self.method, self.procs)

    @property
    def _place(self) -> tuple[int, int]:
        return self.procs.rank, self.procs.world_size

    def _example(self, size: int) -> list[dict[str, Tensor]]:
        return self.make_inputs(torch.arange(size, device=self.dataset.device))

    def train_epoch(self, stop: StopSignal) -> dict[str, float] | None:
        """Train one epoch, or the rest of it. Return its metrics, or None if a signal came first. Raises UserError if
        the loss is not finite."""
        config, started = self.config, time.perf_counter()
        lr = rate_at(config.lr, config.milestones, self.epoch)
        self.optimizer.param_groups[0]["lr"] = lr
        order = epoch_order(len(self.dataset), config.seed, self.epoch).to(self.dataset.device)
        clips = self.batches[-1].stop - self.batches[self.step].start
        self.parallel.train()
        while self.step < len(self.batches):
            self.train_step(order[self.batches[self.step]])
            self.step += 1
            if self.step % READ_EVERY == 0:
                self.meter.read(self.epoch)
            is_alone = self.procs.world_size == 1
            if self.step < len(self.batches) and (stop.received if is_alone else stop.agreed(self.procs, self.step)):
                return None
        metrics = self.meter.read(self.epoch)
        if not torch.stack([p.isfinite().all() for p in self.method.parameters()]).all():
            raise UserError(f"epoch {self.epoch}: the weights are not finite, so training stops; lower --lr")
        seconds = time.perf_counter() - started
        self.epoch, self.step, self.meter = self.epoch + 1, 0, Meter()
        return metrics | {"lr": lr, "seconds": seconds, "samples_per_second": clips / seconds}

    def train_step(self, indices: Tensor) -> None:
        """Train on the recordings at `indices`, the global batch, int64 on the data set's device."""
        shares = [share(len(indices), rank, self.procs.world_size) for rank in range(self.procs.world_size)]
        streams = self.make_inputs(indices[shares[self.procs.rank]])
        self.optimizer_step(streams, [part.stop - part.start for part in shares])

    def make_inputs(self, indices: Tensor) -> list[dict[str, Tensor]]:
        """Return each stream's modalities; each stream has its own view of the recordings at `indices`."""
        streams = self.method.streams
        windows, random = self.dataset.views(indices, len(streams), self.config.seed, self.epoch)
        views = self.view(windows, random).to(self.procs.device, non_blocking=True).unflatten(0, (len(streams), -1))
        return [derive(view, modalities, self.parents) for view, modalities in zip(views, streams)]

    def optimizer_step(self, streams: list[dict[str, Tensor]], sizes: Sequence[int]) -> None:
        """Do one Adam step on this process's streams; `sizes` are all processes' numbers of clips."""
        loss = self.compute_loss(streams, sizes) if len(sizes) > 1 else self.compute_loss(streams)
        self.optimizer.zero_grad()
        self.scaler.scale(loss.total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.meter.add(loss, sum(sizes))

    def compute_loss(self, streams: list[dict[str, Tensor]], sizes: Sequence[int] = ()) -> Loss:
        """Compute the loss of the global batch."""
        with torch.autocast(self.procs.device.type, self.dtype, enabled=self.dtype is not None):
            projections = self.parallel(streams)
        return self.method.loss(projections, sizes, self.procs.rank)

    # ---- state -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint (main process only), and remove earlier ones that a signal left."""
        if not self.procs.is_main:
            return
        config, encoder, layout = self.config, self.method.encoder, self.dataset.layout
        state = {
            "epoch": self.epoch,
            "state_dict": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "encoder": {
                "name": config.encoder,
                "hidden_size": config.hidden_size,
                "modalities": list(encoder.modalities),
                "layout": layout.to_json(),
            },
            "args": config.to_json(),
            "dataset": config.dataset,
            "protocol": config.protocol,
            "recordings": len(self.dataset),
            "data": self.dataset.fingerprint(),
            "centred": self.dataset.is_centred(),
            "view": repr(self.view),
            "versions": checkpoints.versions(),
        }
        if self.step:
            state |= {"step": self.step, "meter": self.meter.state()}
        log.info(f"saved {checkpoints.save(config.checkpoint_path, state, config.keep)}")

    def resume(self, path: Path, state: dict[str, Any]) -> None:
        """Go on from a checkpoint. Raises UserError if it belongs to another run or model."""
        self._check_same_run(path, state)
        with reading(path):
            checkpoints.load_weights(self.method, state["state_dict"])
            self._restore_optimizer(state)
            if self.scaler.is_enabled() and state.get("scaler"):
                self.scaler.load_state_dict(state["scaler"])
            self.epoch, self.step = state["epoch"], state.get("step", 0)
            if self.step >= len(self.batches):
                raise UserError(f"is {self.step} steps into an epoch of {len(self.batches)}")
            if self.step:
                self.meter = Meter(state["meter"]["sum"].to(self.procs.device), state["meter"]["clips"])

    def _restore_optimizer(self, state: dict[str, Any]) -> None:
        """Restore Adam's moments; the run's own learning rate and weight decay apply."""
        parameters, moments = self.optimizer.param_groups[0]["params"], state["optimizer"]["state"]
        if (moments or state["epoch"]) and set(moments) != set(range(len(parameters))):
            raise UserError("holds no optimiser state of this model")
        for number, entries in moments.items():
            parameter = parameters[number]
            if any(entries[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
                raise UserError("holds the optimiser state of another model")
            values = {name: torch.empty_like(parameter).copy_(entries[name]) for name in ("exp_avg", "exp_avg_sq")}
            step = torch.tensor(float(entries["step"]), device=parameter.device)
            self.optimizer.state[parameter] = {"step": step, **values}

    def _check_same_run(self, path: Path, state: dict[str, Any]) -> None:
        """Raise UserError if a checkpoint has other arguments, data or augmentations. A missing argument counts as its
        default; published checkpoints state none."""
        remedy = "choose another --checkpoint-path, or start from the beginning with --resume none"
        if state.get("recordings", len(self.dataset)) != len(self.dataset):
            raise UserError(
                f"{path}: was trained on {state['recordings']:,} recordings, not {len(self.dataset):,}: {remedy}"
            )
        if (layout := self.dataset.layout.to_json()) != state["encoder"]["layout"]:
            raise UserError(
                f"{path}: was trained on people of another kind than {layout['skeleton']['name']}: {remedy}"
            )
        arguments, saved = self.config.to_json(), state.get("args", {})
        defaults = replace(
            self.config, **{f.name: f.default for f in fields(Config) if f.default is not MISSING}
        ).to_json()
        changed = [
            f"--{name.replace('_', '-')} {before} (now {value})"
            for name, value in arguments.items()
            if saved and name not in FREE and (before := saved.get(name, defaults[name])) != value
        ]
        if changed:
            raise UserError(f"{path}: was made with {', '.join(changed)}: {remedy}")
        if state.get("data", data := self.dataset.fingerprint()) != data:
            raise UserError(f"{path}: was trained on other recordings than the data set has now: {remedy}")
        if state.get("view", repr(self.view)) != repr(self.view):
            raise UserError(f"{path}: was trained with other augmentations than feeder/augment.py makes now: {remedy}")


class Meter:
    """Average losses over an epoch, weighted by clips. Reading waits for the device; adding does not."""

    def __init__(self, total: Tensor | None = None, clips: int = 0):
        self._sum, self._clips = total, clips
        self._names: list[str] = []

    def state(self) -> dict[str, Any]:
        return {"sum": self._sum, "clips": self._clips}

    def add(self, loss: Loss, clips: int) -> None:
        self._names = ["loss/total", *(f"loss/{name}" for name in loss.terms), *(f"std/{name}" for name in loss.std)]
        values = torch.stack([loss.total.detach(), *loss.terms.values(), *loss.std.values()])
        self._sum = values * clips if self._sum is None else self._sum + values * clips
        self._clips += clips

    def read(self, epoch: int) -> dict[str, float]:
        """Return the means so far, by their names in the log. Raises UserError if one is not finite."""
        assert self._sum is not None  # there has been a step
        means = dict(zip(self._names, (self._sum / self._clips).tolist()))
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise UserError(
                f"epoch {epoch}: {', '.join(broken)} not finite; the last checkpoint is from before: "
                "lower --lr, or use --amp bf16 or off, and run the command again; it goes on from there"
            )
        return means

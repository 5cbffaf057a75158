"""The state of a pre-training run: an epoch, a step, and what a checkpoint keeps of them."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from feeder.augment import training_view
from feeder.clips import ClipDataset
from feeder.sampling import StepRandom, epoch_order, global_batches, share
from models import loading
from models.objective import Loss, Weights, baseline_loss, gather, umurl_loss
from models.umurl import Projections, SimpleBaseline, UmURL
from tools.training.meter import LossMeter
from tools.training.signals import StopSignal
from tools.utils import checkpoints
from tools.utils.distributed import Processes, distribute
from tools.utils.errors import UserError
from tools.utils.precision import autocast

log = logging.getLogger("umurl")
# --objective: the model and its loss
OBJECTIVES: dict[str, tuple[type[UmURL] | type[SimpleBaseline], Callable[[Projections, Weights], Loss]]] = {
    "umurl": (UmURL, umurl_loss),
    "baseline": (SimpleBaseline, baseline_loss),
}
READ_EVERY = 20  # steps between looks at the loss; each look waits for the GPU
# What a resumed run may not change, as it would no longer be the same run.
FIXED = (
    *("dataset", "protocol", "hidden_size", "batch_size", "lr", "wd", "seed", "amp"),
    *("objective", "intra_weight", "inter_weight", "std_weight", "cov_weight", "pretrain_modalities"),
)


class Trainer:
    """Everything that a step changes, and what a checkpoint keeps of it."""

    def __init__(self, args: argparse.Namespace, procs: Processes, source: ClipDataset):
        self.args, self.procs, self.source = args, procs, source
        torch.manual_seed(args.seed)
        model, self.loss = OBJECTIVES[args.objective]
        self.weights = Weights(args.intra_weight, args.inter_weight, args.std_weight, args.cov_weight)
        self.model = model(args.hidden_size, args.pretrain_modalities, source.layout).to(procs.device)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, args.lr, weight_decay=args.wd, fused=True)
        self.scaler = torch.amp.GradScaler(procs.device.type, enabled=args.amp == "fp16")
        self.view = training_view()
        self.epoch = 0  # epochs done
        self.step = 0  # steps done of the next one, where a signal stopped it
        self.meter = LossMeter()
        self.parallel: nn.Module = self.model

    def restore(self, path: Path, state: dict) -> None:
        """Go on from a checkpoint. Raises UserError where it is of another run."""
        saved = state.get("args", {})
        saved_clips = state.get("recordings", len(self.source))
        if saved_clips != len(self.source):
            raise UserError(
                f"{path} was trained on {saved_clips:,} recordings, the data set now has {len(self.source):,}: choose "
                "another --checkpoint-path, or start anew with --resume none"
            )
        checkpoints.check_layout(loading.layout_of(state, path), path, self.source.layout, "the data set now")
        changed = [f"--{k.replace('_', '-')} {saved[k]} (now {getattr(self.args, k)})"
                   for k in FIXED if k in saved and saved[k] != getattr(self.args, k)]  # fmt: skip
        if changed:
            raise UserError(
                f"{path} was made with {', '.join(changed)}: rerun with the same flags, choose another "
                "--checkpoint-path, or start anew with --resume none"
            )
        try:
            self.model.load_state_dict(loading.weights(state))
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scaler.is_enabled() and state.get("scaler"):
                self.scaler.load_state_dict(state["scaler"])
            self.epoch, self.step = state["epoch"], state.get("step", 0)
            if self.step:
                self.meter = LossMeter(state["meter"], self.procs.device)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot resume from {path}: {error}") from error
        if self.epoch and len(self.optimizer.state) < len(self.optimizer.param_groups[0]["params"]):
            raise UserError(f"cannot resume from {path}: it holds no optimiser state")
        if not self.is_finite():
            raise UserError(f"cannot resume from {path}: it holds weights that are not finite")

    def prepare(self) -> None:
        """Wrap the model for several processes, and compile it if asked to, once its weights are in place."""
        if self.args.compile:
            # As a whole, for any numbers of clips: the last batch and one-person clips vary.
            self.model.compile(fullgraph=True, dynamic=True)
        self.parallel = distribute(self.model, self.procs)

    def train_epoch(self, stop: StopSignal) -> dict[str, float] | None:
        """One pass over the data, or what is left of it; returns the epoch's figures, or None where `stop` came
        first. Raises UserError where the loss is not finite."""
        args, device, started = self.args, self.procs.device, time.perf_counter()
        lr = args.lr * 0.1 ** sum(self.epoch >= at for at in args.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        order = epoch_order(len(self.source), args.seed, self.epoch)
        batches = global_batches(len(order), args.batch_size)
        clips = batches[-1].stop - batches[self.step].start
        # Asking several processes for a signal waits for their GPUs, so they are asked when the loss is read.
        always_ask = self.procs.world_size == 1 or device.type == "cpu"
        self.parallel.train()
        while self.step < len(batches):
            self.train_step(order[batches[self.step]])
            read = self.step % READ_EVERY == 0
            if read:
                self.meter.read(self.epoch)
            if (read or always_ask) and self.step < len(batches) and stop.agreed(device):
                return None
        figures = self.meter.read(self.epoch)
        if not self.is_finite():
            raise UserError(f"epoch {self.epoch}: the weights are not finite, so training stops; lower --lr")
        seconds = time.perf_counter() - started
        self.epoch, self.step, self.meter = self.epoch + 1, 0, LossMeter()
        return figures | {"lr": lr, "seconds": seconds, "samples_per_second": clips / seconds}

    def is_finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def train_step(self, rows: torch.Tensor) -> None:
        """Train on the recordings at `rows` of the source, the global batch."""
        device, world_size = self.procs.device, self.procs.world_size
        shares = [share(len(rows), rank, world_size) for rank in range(world_size)]
        mine = torch.arange(len(rows))[shares[self.procs.rank]]
        order, lone = self.source.lone_first(rows[mine])
        mine = mine[order]
        draw = StepRandom.for_step(self.args.seed, self.epoch, self.step, len(rows), mine)
        clips = self.source.clips(rows[mine], draw)
        views = tuple(self.view(clips).to(device, non_blocking=True) for _ in range(self.model.num_views))
        with autocast(self.args.amp, device):
            projections = self._project(views, lone)
        together = gather(projections, [s.stop - s.start for s in shares], self.procs.rank)
        loss = self.loss(together, self.weights)
        self.optimizer.zero_grad()
        self.scaler.scale(loss.total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.meter.add(loss, len(rows))
        self.step += 1

    def _project(self, views: tuple[Tensor, ...], lone: int) -> Projections:
        try:
            return self.parallel(views, lone)
        except RuntimeError as error:
            if not (self.args.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))):
                raise
            reason = " ".join(str(error).split())[:200]
            log.warning(f"warning: --compile does not work here, so the model runs uncompiled from now on: {reason}")
            torch.compiler.set_stance("force_eager")
            return self.parallel(views, lone)

    def save(self) -> None:
        """Write a checkpoint (the main process does), and remove those that a signal left before it."""
        if not self.procs.is_main:
            return
        args = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.args).items()}
        state = {
            "epoch": self.epoch,
            "state_dict": checkpoints.prefixed(self.model),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "args": args,
            "dataset": args["dataset"],
            "protocol": args["protocol"],
            "recordings": len(self.source),
            "body": self.source.layout.to_json(),
            "versions": checkpoints.versions(),
        }
        if self.step:
            state |= {"step": self.step, "meter": self.meter.state()}
        log.info(f"saved {checkpoints.save(self.args.checkpoint_path, state, self.args.keep)}")

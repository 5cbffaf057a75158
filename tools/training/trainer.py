"""Train epochs and steps of a pre-training run, and save its state."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from feeder.augment import View, training_view
from feeder.clips import NUM_FRAMES, ClipDataset
from feeder.modalities import ModalityTokens, Tokens
from feeder.sampling import epoch_order, global_batches, share
from models.flops import training_flops
from models.objective import Loss, Weights, baseline_loss, gather, umurl_loss
from models.umurl import Projections, SimpleBaseline, UmURL
from tools.training.compiling import StaticCompiler, sizes_to_compile
from tools.training.meter import LossMeter
from tools.training.schedule import set_learning_rate
from tools.training.signals import StopSignal
from tools.utils import checkpoints
from tools.utils.distributed import Processes, distribute
from tools.utils.errors import UserError
from tools.utils.hardware import peak_flops
from tools.utils.precision import autocast, choose_amp

log = logging.getLogger("umurl")
# --objective: the model and its loss
OBJECTIVES: dict[str, tuple[type[UmURL] | type[SimpleBaseline], Callable[[Projections, Weights], Loss]]] = {
    "umurl": (UmURL, umurl_loss),
    "baseline": (SimpleBaseline, baseline_loss),
}
READ_EVERY = 20  # steps between looks at the loss; each look waits for the GPU


def checked_view(dataset: ClipDataset) -> View:
    """Return the pipeline of feeder/augment.py, tried on a recording. Raises UserError if it fails on these data."""
    try:
        view = training_view()
        length = view(dataset.views(torch.arange(1, device=dataset.device), 1, seed=0, epoch=0)).shape[1]
        if length != NUM_FRAMES:
            raise ValueError(f"clips have {length} frames behind it, not the {NUM_FRAMES} that the model takes")
    except (TypeError, ValueError) as error:
        raise UserError(f"training_view() in feeder/augment.py: {error}") from error
    return view


class Trainer:
    """Hold all state that a step changes, and save it in checkpoints."""

    def __init__(self, args: argparse.Namespace, procs: Processes, dataset: ClipDataset):
        self.args, self.procs, self.dataset = args, procs, dataset
        args.amp = choose_amp(args.amp, procs.device)
        self.data = dataset.fingerprint()
        torch.manual_seed(args.seed)
        model, self.objective = OBJECTIVES[args.objective]
        self.weights = Weights(args.intra_weight, args.inter_weight, args.std_weight, args.cov_weight)
        self.model = model(args.hidden_size, args.pretrain_modalities, dataset.layout).to(procs.device)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, args.lr, weight_decay=args.wd, fused=True)
        self.scaler = torch.amp.GradScaler(procs.device.type, enabled=args.amp == "fp16")
        self.view, self.tokens = checked_view(dataset), ModalityTokens(dataset.layout).to(procs.device)
        self.compiler = StaticCompiler(sizes_to_compile(args.compile, procs.device, self._batch_sizes(), args.epochs))
        self.flops = training_flops(args.hidden_size, len(self.model.modalities), dataset.layout)  # of a sample
        peak = peak_flops(procs.device, args.amp) if args.objective == "umurl" else None
        self.peak = peak and peak * procs.world_size
        self.epoch = 0  # epochs done
        self.step = 0  # steps done of the next one, where a signal stopped it
        self.meter = LossMeter()
        self.parallel: nn.Module = self.model
        self.compute_loss: Callable[..., Loss] = self.forward  # or its compiled form

    def _batch_sizes(self) -> list[int]:
        """Return this process's numbers of clips in the steps of an epoch."""
        batches = global_batches(len(self.dataset), self.args.batch_size)
        shares = [share(b.stop - b.start, self.procs.rank, self.procs.world_size) for b in batches]
        return [s.stop - s.start for s in shares]

    def compile_and_distribute(self) -> None:
        """Compile where it saves time, and wrap the model for several processes. Call it after loading weights."""
        self.model.train()
        if self.compiler.sizes:
            self._compile()
        self.parallel = distribute(self.model, self.procs)

    def _compile(self) -> None:
        if self.procs.world_size == 1:
            self.compute_loss = self.compiler.compile(self.forward, self.model, self._example, lambda loss: loss.total)
        else:
            # The projectors' batch norms and the objective talk to other processes, so the encoder is compiled alone.
            encoder = self.model.backbone
            with autocast(self.args.amp, self.procs.device):
                compiled = self.compiler.compile(
                    encoder.encode, self.model, self._example, lambda y: torch.stack(y).float().sum()
                )
            encoder.encode = compiled  # type: ignore[method-assign]

    def _example(self, size: int) -> list[dict[str, Tokens]]:
        return self.feed(torch.arange(size, device=self.dataset.device))

    def train_epoch(self, stop: StopSignal) -> dict[str, float] | None:
        """Train one epoch, or the rest of it. Return its metrics, or None if `stop` came first. Raises UserError if
        the loss is not finite."""
        args, started = self.args, time.perf_counter()
        lr = set_learning_rate(self.optimizer, args.lr, args.schedule, self.epoch)
        order = epoch_order(len(self.dataset), args.seed, self.epoch).to(self.dataset.device)
        batches = global_batches(len(order), args.batch_size)
        clips = batches[-1].stop - batches[self.step].start
        self.parallel.train()
        while self.step < len(batches):
            self.train_step(order[batches[self.step]])
            if self.step % READ_EVERY == 0:
                self.meter.read(self.epoch)
            if self.step < len(batches) and stop.agreed_at(self.step, self.procs):
                return None
        metrics = self.meter.read(self.epoch)
        if not self.is_finite():
            raise UserError(f"epoch {self.epoch}: the weights are not finite, so training stops; lower --lr")
        seconds = time.perf_counter() - started
        self.epoch, self.step, self.meter = self.epoch + 1, 0, LossMeter()
        speed = {"lr": lr, "seconds": seconds, "samples_per_second": clips / seconds}
        return metrics | speed | ({"mfu": speed["samples_per_second"] * self.flops / self.peak} if self.peak else {})

    def is_finite(self) -> bool:
        return bool(torch.stack([p.isfinite().all() for p in self.model.parameters()]).all())

    def train_step(self, rows: Tensor) -> None:
        """Train on the recordings at `rows`, the global batch, int64 on the data set's device."""
        shares = [share(len(rows), rank, self.procs.world_size) for rank in range(self.procs.world_size)]
        streams = self.feed(rows[shares[self.procs.rank]])
        self.update(streams, [s.stop - s.start for s in shares])
        self.step += 1

    def feed(self, rows: Tensor) -> list[dict[str, Tokens]]:
        """Return the tokens of each of the model's streams; each has its own view of the recordings at `rows`."""
        streams = self.model.streams
        clips = self.dataset.views(rows, len(streams), self.args.seed, self.epoch)
        views = self.view(clips).to(self.procs.device, non_blocking=True).unflatten(0, (len(streams), -1))
        return [self.tokens(view, modalities) for view, modalities in zip(views, streams)]

    def update(self, streams: list[dict[str, Tokens]], sizes: list[int]) -> None:
        """Do one Adam step on this process's streams; `sizes` are all processes' numbers of clips."""
        with self.compiler.stance(sizes[self.procs.rank]):
            loss = self.compute_loss(streams, sizes) if len(sizes) > 1 else self.compute_loss(streams)
        self.optimizer.zero_grad()
        self.scaler.scale(loss.total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.meter.add(loss, sum(sizes))

    def forward(self, streams: list[dict[str, Tokens]], sizes: Sequence[int] = ()) -> Loss:
        """Run the model and the objective on the global batch."""
        with autocast(self.args.amp, self.procs.device):
            projections = self.parallel(streams)
        return self.objective(gather(projections, sizes, self.procs.rank), self.weights)

    def config(self) -> dict[str, Any]:
        """Return the arguments as plain values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.args).items()}

    def save(self) -> None:
        """Write a checkpoint (main process only), and remove earlier ones that a signal left."""
        if not self.procs.is_main:
            return
        args = self.config()
        state = {
            "epoch": self.epoch,
            "state_dict": checkpoints.prefixed(self.model),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "args": args,
            "dataset": args["dataset"],
            "protocol": args["protocol"],
            "recordings": len(self.dataset),
            "data": self.data,
            "body": self.dataset.layout.to_json(),
            "centred": self.dataset.is_centred(),
            "view": repr(self.view),
            "versions": checkpoints.versions(),
        }
        if self.step:
            state |= {"step": self.step, "meter": self.meter.state()}
        log.info(f"saved {checkpoints.save(self.args.checkpoint_path, state, self.args.keep)}")

"""Pre-train the unified encoder without labels (docs/method.md, 3 to 7).

    python pretrain.py --checkpoint-path checkpoints/ntu60_xsub                                one process
    torchrun --standalone --nproc_per_node=8 pretrain.py --checkpoint-path checkpoints/...     one per GPU

Run again, the same command goes on from the last checkpoint in that folder.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from data_gen.datasets import DataSet, Protocol
from data_gen.packed import PackedDataset
from feeder.augment import training_view
from feeder.clips import ClipSource
from feeder.sampling import Draw, epoch_order, global_batches, share
from models.objective import gather, umurl_loss
from models.umurl import UmURL
from tools import checkpoints
from tools.errors import UserError, run
from tools.logs import EpochLog, progress, start_log
from tools.meter import LossMeter
from tools.options import (
    HelpFormatter,
    add_data_options,
    choose_data,
    non_negative_float,
    non_negative_int,
    open_dataset,
    positive_float,
    positive_int,
)
from tools.processes import Processes, agree, detect, processes

log = logging.getLogger("umurl")
NUM_VIEWS = 4
READ_EVERY = 50  # steps between looks at the loss; each look waits for the GPU
# What a resumed run may not change, as it would no longer be the same run.
FIXED = ("dataset", "protocol", "hidden_size", "batch_size", "lr", "wd", "seed", "amp")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    parser.add_argument(
        "--checkpoint-path", type=Path, required=True, metavar="DIR", help="folder of the run: checkpoints, logs"
    )
    add_data_options(parser, "--pre-dataset")
    parser.add_argument(
        "--epochs",
        type=non_negative_int,
        help="epochs in all; 0 saves the untrained encoder; default: the protocol's recipe",
    )
    parser.add_argument(
        "--schedule", type=int, nargs="*", help="epochs at which the rate drops to a tenth; default: the recipe"
    )
    parser.add_argument("--lr", type=positive_float, help="learning rate of Adam; default: the recipe")
    parser.add_argument("--wd", type=non_negative_float, default=1e-5, help="weight decay (L2, as in Adam)")
    parser.add_argument("--batch-size", type=int, help="global batch, of all processes together; default: the recipe")
    parser.add_argument("--hidden-size", type=positive_int, help="width of the encoder; default: the recipe")
    parser.add_argument(
        "--amp",
        choices=("bf16", "fp16", "off"),
        help="precision of the model (the objective is float32); default: bf16 on a GPU that has it, fp16 on others, "
        "off on a CPU",
    )
    parser.add_argument("--compile", action="store_true", help="compile the model with torch.compile")
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|none|FILE",
        help="auto: go on from the newest readable checkpoint of --checkpoint-path; none: start anew and remove the "
        "checkpoints there",
    )
    parser.add_argument(
        "--save-freq",
        type=positive_int,
        help="epochs between checkpoints; the last one is always saved; default: the recipe",
    )
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="of initial weights, data order and augmentations"
    )
    return parser.parse_args(argv)


def complete_args(args: argparse.Namespace, device: torch.device, world_size: int) -> tuple[DataSet, Protocol]:
    """Fill in what the flags left to the recipe, and refuse contradictions. Raises UserError."""
    dataset, protocol = choose_data(args.dataset, args.protocol, args.checkpoint_path.resolve().name)
    args.dataset, args.protocol = dataset.name, protocol.name
    for name, value in vars(protocol.recipe).items():
        if getattr(args, name) is None:
            setattr(args, name, list(value) if isinstance(value, tuple) else value)
    if args.amp is None:
        args.amp = "off" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if args.amp == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs a GPU; on a CPU use --amp off or bf16")
    if args.batch_size < 2:
        raise UserError(f"--batch-size {args.batch_size}: the objective needs at least 2 clips a batch")
    if args.batch_size < world_size:
        raise UserError(f"--batch-size {args.batch_size} is global and cannot be shared by {world_size} processes")
    if args.hidden_size % 2:
        raise UserError(f"--hidden-size {args.hidden_size}: the position code needs an even number")
    return dataset, protocol


class Trainer:
    """Everything that a step changes, and what a checkpoint keeps of it."""

    def __init__(self, args: argparse.Namespace, procs: Processes, source: ClipSource):
        self.args, self.procs, self.source = args, procs, source
        torch.manual_seed(args.seed)
        self.model = UmURL(args.hidden_size).to(procs.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), args.lr, weight_decay=args.wd, fused=True)
        self.scaler = torch.amp.GradScaler(procs.device.type, enabled=args.amp == "fp16")
        self.view = training_view()
        self.epoch = 0  # epochs done
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
        changed = [f"--{k.replace('_', '-')} {saved[k]} (now {getattr(self.args, k)})"
                   for k in FIXED if k in saved and saved[k] != getattr(self.args, k)]  # fmt: skip
        if changed:
            raise UserError(
                f"{path} was made with {', '.join(changed)}: rerun with the same flags, choose another "
                "--checkpoint-path, or start anew with --resume none"
            )
        try:
            self.model.load_state_dict(checkpoints.weights(state))
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scaler.is_enabled() and state.get("scaler"):
                self.scaler.load_state_dict(state["scaler"])
            self.epoch = state["epoch"]
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot resume from {path}: {error}") from error
        if self.epoch and len(self.optimizer.state) < len(list(self.model.parameters())):
            raise UserError(f"cannot resume from {path}: it holds no optimiser state")
        if not self.is_finite():
            raise UserError(f"cannot resume from {path}: it holds weights that are not finite")

    def prepare(self) -> None:
        """Wrap the model for several processes, and compile it if asked to, once its weights are in place."""
        if self.procs.world_size > 1:
            device_ids = [self.procs.device] if self.procs.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(self.model, device_ids)
        if self.args.compile:
            self.parallel = torch.compile(self.parallel, dynamic=True)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the data; returns the epoch's figures. Raises UserError where the loss is not finite."""
        args, started = self.args, time.perf_counter()
        lr = args.lr * 0.1 ** sum(self.epoch >= at for at in args.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        order = epoch_order(len(self.source), args.seed, self.epoch)
        batches = global_batches(len(order), args.batch_size)
        meter = LossMeter()
        self.parallel.train()
        for step, batch in enumerate(batches):
            self.train_step(order[batch], step, meter)
            if (step + 1) % READ_EVERY == 0:
                meter.read(self.epoch)
        figures = meter.read(self.epoch)
        if not self.is_finite():
            raise UserError(f"epoch {self.epoch}: the weights are not finite, so training stops; lower --lr")
        seconds = time.perf_counter() - started
        clips = batches[-1].stop
        self.epoch += 1
        return figures | {"lr": lr, "seconds": seconds, "samples_per_second": clips / seconds}

    def is_finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.model.parameters())

    def train_step(self, rows: torch.Tensor, step: int, meter: LossMeter) -> None:
        device, world_size = self.procs.device, self.procs.world_size
        shares = [share(len(rows), rank, world_size) for rank in range(world_size)]
        mine = torch.arange(len(rows))[shares[self.procs.rank]]
        order, lone = self.source.lone_first(rows[mine])
        mine = mine[order]
        draw = Draw.for_step(self.args.seed, self.epoch, step, len(rows), mine)
        clips = self.source.clips(rows[mine], draw)
        views = tuple(self.view(clips).to(device, non_blocking=True) for _ in range(NUM_VIEWS))
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.args.amp)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            projections = self.parallel(views, lone)
        loss = umurl_loss(gather(projections, [s.stop - s.start for s in shares], self.procs.rank))
        self.optimizer.zero_grad()
        self.scaler.scale(loss.total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        meter.add(loss, len(rows))

    def save(self) -> None:
        if self.procs.is_main:
            args = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.args).items()}
            about = {"args": args, "dataset": self.args.dataset, "protocol": self.args.protocol}
            about["recordings"] = len(self.source)
            folder = self.args.checkpoint_path
            path = checkpoints.save(folder, self.model, self.optimizer, self.scaler, self.epoch, about)
            log.info(f"saved {path}")


def find_resume(args: argparse.Namespace) -> tuple[Path, dict] | None:
    """The checkpoint to go on from, by --resume. Raises UserError where a named one cannot be read."""
    if args.resume == "none":
        return None
    if args.resume == "auto":
        return checkpoints.newest_readable(args.checkpoint_path)
    return Path(args.resume), checkpoints.load(Path(args.resume))


def resume(trainer: Trainer) -> bool:
    """Restore the trainer where there is a checkpoint to go on from; what was read is not kept."""
    found = find_resume(trainer.args)
    if found:
        trainer.restore(*found)
        log.info(f"going on from {found[0]}, after {trainer.epoch} epochs")
    return found is not None


def train(args: argparse.Namespace, procs: Processes, packed: PackedDataset, protocol: Protocol) -> None:
    source = ClipSource.of_dataset(packed, packed.split(protocol.name, "train"), procs.device)
    trainer = Trainer(args, procs, source)
    resumed = resume(trainer)
    agree(trainer.epoch, "the epoch that they go on from")
    trainer.prepare()
    if args.resume == "none" and procs.is_main:
        for path in checkpoints.in_folder(args.checkpoint_path):  # or a later rerun would go on from them
            path.unlink()
    if trainer.epoch >= args.epochs:
        if not resumed:  # --epochs 0
            trainer.save()
        log.info(f"nothing to train: {trainer.epoch} of {args.epochs} epochs are done")
        return
    epochs = EpochLog(args.checkpoint_path, trainer.epoch) if procs.is_main else None
    bar = progress(
        range(trainer.epoch, args.epochs),
        desc="pretrain",
        unit="epoch",
        initial=trainer.epoch,
        total=args.epochs,
        disable=not procs.is_main,
    )
    for epoch in bar:
        figures = trainer.train_epoch()
        if epochs:
            epochs.write(epoch, figures)
        bar.set_postfix(loss=f"{figures['loss/total']:.3f}")
        if epoch % args.save_freq == 0 or epoch == args.epochs - 1:
            trainer.save()
    if epochs:
        epochs.close()


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    start_log(args.checkpoint_path, "pretrain", detect()[0])
    with processes(args.device) as procs:
        dataset, protocol = complete_args(args, procs.device, procs.world_size)
        packed = open_dataset(args.data_root, dataset, protocol)
        counts = {side: len(packed.split(protocol.name, side)) for side in ("train", "val")}
        log.info(
            f"{dataset.title}, {protocol.long_name}: {counts['train']:,} recordings to train on, {procs.world_size} "
            f"process(es) on {procs.device.type}\n  " + " ".join(f"{k}={v}" for k, v in sorted(vars(args).items()))
        )
        train(args, procs, packed, protocol)


if __name__ == "__main__":
    run(main)

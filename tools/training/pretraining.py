"""Pre-train: open the data, resume, train the epochs."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from data_gen.datasets import Protocol
from data_gen.packed.atomic import check_replaceable, locked
from data_gen.packed.reader import PackedDataset
from data_gen.packed.words import counted
from feeder.clips import ClipDataset
from models import checkpoint_files, loading
from models.encoder import Backbone
from tools.training.report import describe_run, epoch_line
from tools.training.resuming import restore
from tools.training.signals import StopSignal
from tools.training.trainer import Trainer
from tools.utils import checkpoints
from tools.utils.distributed import barrier, check_equal, processes
from tools.utils.errors import UserError
from tools.utils.kept_results import set_all_aside
from tools.utils.logs import EpochLog, progress, start_log, write_result

log = logging.getLogger("umurl")


# Measures the accuracy of --knn-every, in %, of an encoder on these modalities.
Knn = Callable[[Backbone, Sequence[str]], float]


def pretrain(
    args: argparse.Namespace,
    sources: list[tuple[PackedDataset, Protocol]],
    make_knn: Callable[[ClipDataset, PackedDataset, str], Knn],
) -> None:
    """Train on the train sides of all `sources`, in all processes; `make_knn` makes the function for --knn-every.
    Raises UserError, CheckpointError, DataSetError or OSError if that is impossible."""
    with processes(args.device) as procs:
        if args.batch_size < procs.world_size:
            raise UserError(
                f"--batch-size {args.batch_size} is global and cannot be shared by {procs.world_size} processes"
            )
        clips = join([ClipDataset.of_dataset(d, d.split(p.name, "train"), procs.device) for d, p in sources])
        packed, protocol = sources[0]
        knn = make_knn(clips, packed, protocol.name) if args.knn_every and procs.is_main else None
        trainer = Trainer(args, procs, clips)
        with locked(args.checkpoint_path) if procs.is_main else nullcontext():
            resumed = resume(trainer)
            check_equal((trainer.epoch, trainer.step), "the epoch and step that they go on from")
            if procs.is_main:
                check_outputs(args.checkpoint_path)
            start_log(args.checkpoint_path, "pretrain", procs.rank)
            log.info(describe_run(trainer, sources))
            if procs.is_main and (trainer.epoch < args.epochs or not resumed):
                config = trainer.config() | {"view": repr(trainer.view), "versions": checkpoints.versions()}
                write_result(args.checkpoint_path, "config", config)
            train(trainer, resumed, knn)


def check_outputs(folder: Path) -> None:
    """Raise OSError if something else than a file has the name of one that the run writes."""
    no_checkpoints = [path for path in checkpoint_files.in_folder(folder) if not path.is_file()]
    check_replaceable(folder / "config.json", folder / "log.jsonl", *no_checkpoints)


def join(parts: list[ClipDataset]) -> ClipDataset:
    """Join the recordings of all data sets. Raises UserError if their frames have different layouts."""
    if len({part.layout for part in parts}) > 1:
        kinds = ", ".join(str(part.layout) for part in parts)
        raise UserError(f"the data sets hold people of different kinds: {kinds}; import them as one kind")
    return ClipDataset.joined(parts)


def resume(trainer: Trainer) -> str | None:
    """Restore the trainer from the checkpoint that --resume chooses, if there is one. Return a line for the log that
    says from which. Raises CheckpointError if it cannot be read."""
    args, found = trainer.args, None
    if args.resume == "auto":
        found = checkpoints.newest_readable(args.checkpoint_path)
    elif args.resume != "none":
        found = Path(args.resume), loading.load(Path(args.resume))
    if not found:
        return None
    restore(trainer, *found)
    before = found[1].get("args", {}).get("schedule", args.schedule)
    changed = f"; warning: --schedule was {before}, now it is {args.schedule}" if before != args.schedule else ""
    return f"going on from {found[0]}, after {progress_text(trainer.epoch, trainer.step)}{changed}"


def progress_text(epochs: int, steps: int) -> str:
    """Format how much of a run is done: `3 epochs and 1 step`."""
    return counted(epochs, "epoch") + (f" and {counted(steps, 'step')}" if steps else "")


def train(trainer: Trainer, resumed: str | None, knn: Knn | None) -> None:
    """Train the run, or the rest of it."""
    args, procs = trainer.args, trainer.procs
    if resumed:
        log.info(resumed)
    if args.resume == "none" and procs.is_main:
        set_all_aside(args.checkpoint_path)
        for path in checkpoint_files.in_folder(args.checkpoint_path):  # or a later rerun would go on from them
            path.unlink(missing_ok=True)
    if trainer.epoch >= args.epochs:
        if not resumed:  # --epochs 0
            trainer.save()
        log.info(f"nothing to train: {trainer.epoch} of {counted(args.epochs, 'epoch')} done")
        return
    trainer.compile_and_distribute()
    epochs = EpochLog(args.checkpoint_path, trainer.epoch, trainer.config()) if procs.is_main else None
    with StopSignal() as stop:
        train_epochs(trainer, epochs, stop, knn)
    if epochs:
        epochs.close()
    if stop.received and trainer.epoch < args.epochs:
        name = signal.Signals(stop.received).name
        done = progress_text(trainer.epoch, trainer.step)
        log.info(f"stopped by {name} after {done}; the same command goes on")
        sys.exit(128 + stop.received)


def train_epochs(trainer: Trainer, epochs: EpochLog | None, stop: StopSignal, knn: Knn | None) -> None:
    """Train the remaining epochs or until a signal, and save in both cases. Only the main process has `epochs`, the
    log."""
    args = trainer.args
    bar = progress(
        range(trainer.epoch, args.epochs),
        desc="pretrain",
        unit="epoch",
        initial=trainer.epoch,
        total=args.epochs,
        disable=epochs is None or not sys.stderr.isatty(),  # the log has a line per epoch
    )
    for epoch in bar:
        metrics = trainer.train_epoch(stop)
        if metrics and epochs:
            if knn and (trainer.epoch % args.knn_every == 0 or trainer.epoch == args.epochs):
                with trainer.compiler.stance(0):
                    metrics["knn/top1"] = knn(trainer.model.backbone, args.pretrain_modalities)
            epochs.write(epoch, metrics)
            log.info(epoch_line(epoch, args.epochs, metrics))
        stopped = stop.agreed(trainer.procs.device)
        if stopped or epoch % args.save_freq == 0 or epoch == args.epochs - 1:
            trainer.save()
        if stopped:
            barrier()  # or torchrun, seeing one of them end, would kill the one that saves
            return

"""Pre-train the unified encoder without labels (docs/method.md, 3 to 7).

    python pretrain.py --checkpoint-path checkpoints/ntu60_xsub                                one process
    torchrun --standalone --nproc_per_node=8 pretrain.py --checkpoint-path checkpoints/...     one per GPU

Run again, the same command goes on from the last checkpoint in that folder.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import torch

from data_gen.datasets import DataSet, Protocol
from data_gen.packed.atomic import locked
from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset
from feeder.modalities import MODALITIES
from feeder.sampling import global_batches
from models import loading
from models.objective import Weights
from tools.training.compiling import add_compile_option
from tools.training.signals import StopSignal
from tools.training.trainer import OBJECTIVES, Trainer
from tools.utils import checkpoints
from tools.utils.distributed import barrier, check_equal, processes
from tools.utils.errors import UserError, run
from tools.utils.hardware import device_name
from tools.utils.logs import EpochLog, progress, start_log
from tools.utils.options import (
    HelpFormatter,
    add_data_options,
    check_schedule,
    choose_data,
    non_negative_float,
    non_negative_int,
    open_dataset,
    positive_float,
    positive_int,
    seed_number,
)
from tools.utils.precision import add_amp_option, choose_amp

log = logging.getLogger("umurl")


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
        "--schedule",
        type=non_negative_int,
        nargs="*",
        help="epochs at which the rate drops to a tenth; default: the recipe",
    )
    parser.add_argument("--lr", type=positive_float, help="learning rate of Adam; default: the recipe")
    parser.add_argument("--wd", type=non_negative_float, default=1e-5, help="weight decay (L2, as in Adam)")
    parser.add_argument("--batch-size", type=int, help="global batch, of all processes together; default: the recipe")
    parser.add_argument("--hidden-size", type=positive_int, help="width of the encoder; default: the recipe")
    add_amp_option(parser, "the model (the objective is float32)")
    add_objective_options(parser)
    add_compile_option(parser)
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
        "--keep", type=positive_int, metavar="N", help="keep only the newest N checkpoints; default: all"
    )
    parser.add_argument("--seed", type=seed_number, default=0, help="of initial weights, data order and augmentations")
    return parser.parse_args(argv)


def add_objective_options(parser: argparse.ArgumentParser) -> None:
    """What the paper's ablations vary."""
    parser.add_argument(
        "--objective",
        choices=list(OBJECTIVES),
        default="umurl",
        help="umurl, or the simple baseline of the paper's ablation: two views fused early, one projector",
    )
    published = Weights()
    for name, what in (
        ("intra", "consistency within a modality; of the baseline: of its two views"),
        ("inter", "consistency between modalities"),
        ("std", "each projection's deviation"),
        ("cov", "each projection's covariance"),
    ):
        value = getattr(published, name)
        parser.add_argument(
            f"--{name}-weight", type=non_negative_float, metavar="W", default=value, help=f"weight of the {what}"
        )
    parser.add_argument(
        "--pretrain-modalities",
        nargs="+",
        choices=MODALITIES,
        default=list(MODALITIES),
        help="the modalities that are used, in the streams of their own and fused",
    )


def complete_args(args: argparse.Namespace, device: torch.device, world_size: int) -> tuple[DataSet, Protocol]:
    """Fill in what the flags left to the recipe, and refuse contradictions. Raises UserError."""
    dataset, protocol = choose_data(args.dataset, args.protocol, args.checkpoint_path.resolve().name, args.data_root)
    args.dataset, args.protocol = dataset.name, protocol.name
    schedule_is_given = args.schedule is not None
    for name, value in vars(protocol.recipe).items():
        if getattr(args, name) is None:
            setattr(args, name, list(value) if isinstance(value, tuple) else value)
    if schedule_is_given:
        check_schedule(args.schedule, args.epochs)
    args.amp = choose_amp(args.amp, device)
    if args.batch_size < 2:
        raise UserError(f"--batch-size {args.batch_size}: the objective needs at least 2 clips a batch")
    if args.batch_size < world_size:
        raise UserError(f"--batch-size {args.batch_size} is global and cannot be shared by {world_size} processes")
    args.pretrain_modalities = [m for m in MODALITIES if m in args.pretrain_modalities]
    if args.objective == "baseline" and args.inter_weight != Weights.inter:
        raise UserError("--inter-weight: the baseline has no term between modalities; leave it out")
    if args.hidden_size % 2:
        raise UserError(f"--hidden-size {args.hidden_size}: the position code needs an even number")
    return dataset, protocol


def find_resume(args: argparse.Namespace) -> tuple[Path, dict] | None:
    """The checkpoint to go on from, by --resume. Raises UserError where a named one cannot be read."""
    if args.resume == "none":
        return None
    if args.resume == "auto":
        return checkpoints.newest_readable(args.checkpoint_path)
    return Path(args.resume), loading.load(Path(args.resume))


def resume(trainer: Trainer) -> str | None:
    """Restore the trainer where there is a checkpoint to go on from, and say which; what was read is not kept."""
    found = find_resume(trainer.args)
    if not found:
        return None
    trainer.restore(*found)
    step = f" and {trainer.step} steps" if trainer.step else ""
    return f"going on from {found[0]}, after {trainer.epoch} epochs{step}"


def train(trainer: Trainer, resumed: str | None) -> None:
    """The run, or what is left of it."""
    args, procs = trainer.args, trainer.procs
    if resumed:
        log.info(resumed)
    if args.resume == "none" and procs.is_main:
        for path in loading.in_folder(args.checkpoint_path):  # or a later rerun would go on from them
            path.unlink()
    if trainer.epoch >= args.epochs:
        if not resumed:  # --epochs 0
            trainer.save()
        log.info(f"nothing to train: {trainer.epoch} of {args.epochs} epochs are done")
        return
    trainer.prepare()
    epochs = EpochLog(args.checkpoint_path, trainer.epoch) if procs.is_main else None
    with StopSignal() as stop:
        train_epochs(trainer, epochs, stop)
    if epochs:
        epochs.close()
    if stop.received and trainer.epoch < args.epochs:
        name = signal.Signals(stop.received).name
        log.info(f"stopped by {name} after {trainer.epoch} epochs and {trainer.step} steps; the same command goes on")
        sys.exit(128 + stop.received)


def train_epochs(trainer: Trainer, epochs: EpochLog | None, stop: StopSignal) -> None:
    """The remaining epochs, or until a signal, saved either way. Only the main process has a log of epochs."""
    args = trainer.args
    bar = progress(
        range(trainer.epoch, args.epochs),
        desc="pretrain",
        unit="epoch",
        initial=trainer.epoch,
        total=args.epochs,
        disable=epochs is None,
    )
    for epoch in bar:
        metrics = trainer.train_epoch(stop)
        if metrics and epochs:
            epochs.write(epoch, metrics)
            log.info(epoch_line(epoch, args.epochs, metrics))
        stopped = stop.agreed(trainer.procs.device)
        if stopped or epoch % args.save_freq == 0 or epoch == args.epochs - 1:
            trainer.save()
        if stopped:
            barrier()  # or torchrun, seeing one of them end, would kill the one that saves
            return


def epoch_line(epoch: int, epochs: int, metrics: dict[str, float]) -> str:
    """What an epoch's line in the log says: the loss and its terms, the rate, the speed, the time left."""
    terms = " ".join(f"{k.removeprefix('loss/')} {v:.4g}" for k, v in metrics.items() if k.startswith("loss/"))
    speed = f"{metrics['samples_per_second']:,.0f} samples/s"
    if "mfu" in metrics:
        speed += f" (MFU {100 * metrics['mfu']:.0f} %)"
    left = duration(metrics["seconds"] * (epochs - epoch - 1))
    return f"epoch {epoch} ({epoch + 1} of {epochs}): {terms}, rate {metrics['lr']:g}, {speed}, {left} left"


def duration(seconds: float) -> str:
    """Hours and minutes, or seconds below two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def summary(trainer: Trainer, dataset: DataSet, protocol: Protocol, packed: PackedDataset) -> str:
    """What a run is about to do, for people; every argument is in the checkpoints."""
    args, model, procs = trainer.args, trainer.model, trainer.procs
    size, batch = len(trainer.dataset), args.batch_size
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, model.backbone)]
    drops = f", a tenth from epoch {' and '.join(map(str, args.schedule))} on" if args.schedule else ""
    lines = [
        f"data: {dataset.title}, {protocol.long_name}, {size:,} recordings to train on, {packed.path}",
        f"model: {args.objective} of {', '.join(args.pretrain_modalities)}, hidden size {args.hidden_size}, "
        f"{sizes[0]:.2f} M parameters, {sizes[1]:.2f} M of them in the encoder",
        f"schedule: {args.epochs} epochs of {len(global_batches(size, batch))} step(s), {batch} clips a step, rate "
        f"{args.lr:g}{drops}, weight decay {args.wd:g}, seed {args.seed}",
        f"machine: {procs.world_size} process(es), {device_name(procs.device)}, "
        + ("float32" if args.amp == "off" else args.amp),
    ]
    if batch > size:
        lines.append(f"warning: --batch-size {batch} is more than all {size} recordings: every epoch is one step")
    if late := [at for at in args.schedule if at >= args.epochs > 0]:
        lines.append(f"warning: the rate does not drop at epoch {late[0]}, as there are only {args.epochs} epochs")
    return "\n  ".join(lines)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with processes(args.device) as procs:
        dataset, protocol = complete_args(args, procs.device, procs.world_size)
        packed = open_dataset(args.data_root, dataset, protocol)
        clips = ClipDataset.of_dataset(packed, packed.split(protocol.name, "train"), procs.device)
        trainer = Trainer(args, procs, clips)
        with locked(args.checkpoint_path) if procs.is_main else nullcontext():
            resumed = resume(trainer)
            check_equal((trainer.epoch, trainer.step), "the epoch and step that they go on from")
            start_log(args.checkpoint_path, "pretrain", procs.rank)
            log.info(summary(trainer, dataset, protocol, packed))
            train(trainer, resumed)


if __name__ == "__main__":
    run(main)

"""What pre-training logs for people: a summary at the start, a line per epoch."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.datasets import Protocol
from data_gen.packed.reader import PackedDataset
from data_gen.packed.words import counted
from feeder.sampling import global_batches
from tools.training.trainer import Trainer
from tools.utils.hardware import device_name


def describe_run(trainer: Trainer, sources: Sequence[tuple[PackedDataset, Protocol]]) -> str:
    """Describe what a run is about to do. Checkpoints have every argument."""
    args, model, procs = trainer.args, trainer.model, trainer.procs
    size, batch = len(trainer.dataset), args.batch_size
    sizes = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, model.backbone)]
    drops = f", a tenth from epoch {' and '.join(map(str, args.schedule))} on" if args.schedule else ""
    epochs = counted(args.epochs, "epoch")
    lines = [
        f"data: {size:,} recordings to train on, of "
        + " and ".join(f"{packed.title}, {protocol.long_name} ({packed.path})" for packed, protocol in sources),
        f"model: {args.objective} of {', '.join(args.pretrain_modalities)}, hidden size {args.hidden_size}, "
        f"{sizes[0]:.2f} M parameters, {sizes[1]:.2f} M of them in the encoder",
        f"schedule: {epochs} of {counted(len(global_batches(size, batch)), 'step')}, {batch} clips a step, rate "
        f"{args.lr:g}{drops}, weight decay {args.wd:g}, seed {args.seed}",
        f"machine: {counted(procs.world_size, 'process')}, {device_name(procs.device)}, "
        + ("float32" if args.amp == "off" else args.amp),
    ]
    if batch > size:
        lines.append(f"warning: --batch-size {batch} is above all {size} recordings: an epoch is one step; lower it")
    if late := [at for at in args.schedule if at >= args.epochs > 0]:
        lines.append(f"warning: the rate does not drop at epoch {late[0]}, as the run has only {epochs}")
    return "\n  ".join(lines)


def epoch_line(epoch: int, epochs: int, metrics: dict[str, float]) -> str:
    """Format an epoch's line in the log: the loss and its terms, the rate, the speed, the time left."""
    knn = f", 1-NN {metrics['knn/top1']:.1f} %" if "knn/top1" in metrics else ""
    terms = " ".join(f"{k.removeprefix('loss/')} {v:.4g}" for k, v in metrics.items() if k.startswith("loss/"))
    speed = f"{metrics['samples_per_second']:,.0f} samples/s"
    if "mfu" in metrics:
        speed += f" (MFU {100 * metrics['mfu']:.0f} %)"
    left = duration(metrics["seconds"] * (epochs - epoch - 1))
    return f"epoch {epoch} ({epoch + 1} of {epochs}): {terms}{knn}, rate {metrics['lr']:g}, {speed}, {left} left"


def duration(seconds: float) -> str:
    """Format as hours and minutes, or as seconds below two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"

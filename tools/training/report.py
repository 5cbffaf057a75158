"""What pre-training logs for people: a summary at the start, a line per epoch."""

from __future__ import annotations

import torch

from tools.training.trainer import Trainer
from utils.text import counted


def describe_run(trainer: Trainer, sources: list[str]) -> str:
    """Describe what a run is about to do; `sources` describe its data sets."""
    config, method, procs = trainer.config, trainer.method, trainer.procs
    size, batch = len(trainer.dataset), config.batch_size
    parameters = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (method, method.encoder)]
    drops = f", a tenth from epoch {' and '.join(map(str, config.milestones))} on" if config.milestones else ""
    lines = [
        f"data: {size:,} recordings to train on, of {' and '.join(sources)}",
        f"model: {config.method} of {', '.join(config.pretrain_modalities)}, encoder {config.encoder}, hidden size "
        f"{config.hidden_size}, {parameters[0]:.2f} M parameters, {parameters[1]:.2f} M of them in the encoder",
        f"schedule: {counted(config.epochs, 'epoch')} of {counted(len(trainer.batches), 'step')}, batch size {batch}, "
        f"rate {config.lr:g}{drops}, weight decay {config.wd:g}, seed {config.seed}",
        f"machine: {counted(procs.world_size, 'process')}, {device_name(procs.device)}, "
        + ("float32" if config.amp == "off" else config.amp),
    ]
    if batch > size:
        lines.append(f"warning: --batch-size {batch} is above all {size} recordings: an epoch is one step; lower it")
    if late := [milestone for milestone in config.milestones if milestone >= config.epochs > 0]:
        lines.append(
            f"warning: the rate does not drop at epoch {late[0]}: the run has {counted(config.epochs, 'epoch')}"
        )
    return "\n  ".join(lines)


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or `CPU` and its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {counted(torch.get_num_threads(), 'thread')}"


def epoch_line(epoch: int, epochs: int, metrics: dict[str, float]) -> str:
    """Format an epoch's line in the log: the loss and its terms, the rate, the speed, the time left."""
    knn = f", 1-NN {metrics['knn/top1']:.1f} %" if "knn/top1" in metrics else ""
    terms = " ".join(f"{k.removeprefix('loss/')} {v:.4g}" for k, v in metrics.items() if k.startswith("loss/"))
    left = duration(metrics["seconds"] * (epochs - epoch - 1))
    speed = f"{metrics['samples_per_second']:,.0f} samples/s"
    return f"epoch {epoch} ({epoch + 1} of {epochs}): {terms}{knn}, rate {metrics['lr']:g}, {speed}, {left} left"


def duration(seconds: float) -> str:
    """Format as hours and minutes, or as seconds below two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def progress_text(epochs: int, steps: int) -> str:
    """Format how much of a run is done: `3 epochs and 1 step`."""
    return counted(epochs, "epoch") + (f" and {counted(steps, 'step')}" if steps else "")

"""Pre-train an encoder without labels (docs/method.md, 3 to 7).

    python pretrain.py --checkpoint-path checkpoints/ntu60_xsub                                one process
    torchrun --standalone --nproc_per_node=8 pretrain.py --checkpoint-path checkpoints/...     one per GPU

The same command goes on from the last checkpoint in that folder.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from data_gen.datasets import DATA_ROOT, DATASETS, DataSet, Protocol, choose_data, open_dataset, protocols_by_name
from data_gen.packed.reader import ALL, SPLITS
from feeder.modalities import MODALITIES, PUBLISHED, in_order
from models import ENCODERS, METHODS, LossWeights, checkpoints
from tools.training.recipes import OWN, PRESETS, pretrain_recipe
from utils import options
from utils.errors import UserError
from utils.processes import run
from utils.text import counted, table

if TYPE_CHECKING:
    from data_gen.packed.reader import PackedDataset
    from tools.training.trainer import Trainer

log = logging.getLogger("umurl")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = options.make_parser(__doc__, epilog=recipes_table())
    add = parser.add_argument
    add("--checkpoint-path", type=Path, required=True, metavar="DIR", help="folder of the run: checkpoints, logs")
    options.add_data_options(parser, "--pre-dataset", DATA_ROOT, several=True)
    add("--epochs", type=options.non_negative_int, help="epochs; 0 saves the untrained encoder; default: the recipe's")
    drops = "epochs at which the learning rate drops to a tenth; default: the recipe's"
    add("--schedule", dest="milestones", type=options.non_negative_int, nargs="*", metavar="EPOCH", help=drops)
    add("--lr", type=options.positive_float, help="learning rate of Adam; default: the recipe's")
    add("--wd", type=options.non_negative_float, default=1e-5, help="weight decay (L2, as in Adam)")
    batch = "global batch size, summed over all processes; default: the recipe's"
    add("--batch-size", type=options.positive_int, help=batch)
    add("--encoder", choices=list(ENCODERS), default="transformer", help="architecture of the encoder")
    add("--hidden-size", type=options.positive_int, help="width of the encoder; default: the recipe's")
    method = "umurl, or the simple baseline of the paper's ablation: two fused views, one projector"
    add("--method", "--objective", choices=list(METHODS), default="umurl", help=method)
    for weight in fields(LossWeights):
        text = f"weight of the {weight.metadata['help']}; default: {weight.default:g}, or the preset's"
        add(f"--{weight.name}-weight", type=options.non_negative_float, metavar="W", help=text)
    streams = "modalities, each in a stream of its own and all fused"
    add("--pretrain-modalities", nargs="+", choices=list(MODALITIES), default=list(PUBLISHED), help=streams)
    add("--augment", default="published", help="augmentations: published, mirror, or another of feeder/augment.py")
    tuned = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in PRESETS["tuned"].items())
    preset = f"preset of hyper-parameters; explicit flags override it; tuned: {tuned}"
    add("--recipe", choices=list(PRESETS), default="published", help=preset)
    options.add_training_options(parser, "the model (the loss is float32)")
    resume = "auto: go on from the newest readable checkpoint; none: remove the run's checkpoints and start again"
    add("--resume", default="auto", metavar="auto|none|FILE", help=resume)
    save = "epochs between checkpoints; the last one is always saved; default: the recipe's"
    add("--save-freq", type=options.positive_int, help=save)
    add("--keep", type=options.positive_int, metavar="N", help="keep the newest N checkpoints alone; default: all")
    knn = "epochs between measurements of 1-NN accuracy on the val split (knn/top1), the last epoch included"
    add("--knn-every", type=options.positive_int, metavar="N", help=knn)
    seed = "random seed (initialisation, data order, augmentation)"
    add("--seed", type=options.non_negative_int, default=0, help=seed)
    return parser.parse_args(argv)


def recipes_table() -> str:
    """Format the recipes of the table's protocols, for --help."""
    recipes = {
        name: pretrain_recipe(dataset.name, p.name) for name, (dataset, p) in protocols_by_name(DATASETS).items()
    }
    rows = [
        [name, *(" ".join(map(str, v)) if isinstance(v, tuple) else f"{v:g}" for v in vars(recipe).values())]
        for name, recipe in (recipes | {"data sets of your own": OWN}).items()
    ]
    return "recipes:\n" + table(["protocol", *(name.replace("_", " ") for name in vars(OWN))], rows)


def make_config(args: argparse.Namespace) -> tuple[dict, list[tuple[DataSet, Protocol]]]:
    """Complete the flags by the recipe. Return the entries of a Config, and the data sets with their protocols. Raises
    UserError for contradictions."""
    names = list(dict.fromkeys(args.dataset or [None]))
    protocol = args.protocol or (ALL if len(names) > 1 else None)
    sources = [choose_data(name, protocol, args.checkpoint_path.resolve().name, args.data_root) for name in names]
    (dataset, protocol), flags = sources[0], vars(args).copy()
    weights = LossWeights().flags()
    defaults = vars(pretrain_recipe(dataset.name, protocol.name)) | weights | PRESETS[args.recipe]
    config = flags | {name: value for name, value in defaults.items() if flags[name] is None}
    if args.milestones is not None:
        options.check_milestones(args.milestones, config["epochs"])
    if config["batch_size"] < 2:
        raise UserError(f"--batch-size {config['batch_size']}: the loss needs at least 2 clips a batch")
    if args.knn_every and len(sources) > 1:
        raise UserError("--knn-every takes one data set to pre-train on")
    config["weights"] = LossWeights(**{name.removesuffix("_weight"): config.pop(name) for name in weights})
    config["dataset"], config["protocol"] = "+".join(dataset.name for dataset, _ in sources), protocol.name
    config["pretrain_modalities"] = in_order(args.pretrain_modalities)
    config["milestones"] = tuple(config["milestones"])
    return config, sources


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    entries, sources = make_config(args)
    splits = SPLITS if args.knn_every else ["train"]
    packed = [open_dataset(args.data_root, *source, splits) for source in sources]

    import torch

    from feeder.clips import ClipDataset
    from tools.training.acceleration import choose_amp
    from tools.training.report import describe_run, progress_text
    from tools.training.trainer import Config, Trainer
    from utils.files import locked, write_json
    from utils.logs import start_log
    from utils.processes import check_equal, processes

    with processes(args.device) as procs:
        config = Config(**entries | {"amp": choose_amp(args.amp, procs.device)})
        if config.batch_size < procs.world_size:
            raise UserError(f"--batch-size {config.batch_size} is global: too small for {procs.world_size} processes")
        parts = [
            ClipDataset.of_dataset(d, d.split(p.name, "train"), procs.device) for d, (_, p) in zip(packed, sources)
        ]
        dataset = ClipDataset.joined(parts)

        torch.manual_seed(config.seed)
        encoder = ENCODERS[config.encoder](config.hidden_size, config.pretrain_modalities, dataset.layout)
        method = METHODS[config.method](encoder, config.weights)
        for weight in fields(LossWeights):
            if getattr(args, f"{weight.name}_weight") is not None and weight.name not in method.loss.terms():
                raise UserError(f"--{weight.name}-weight: --method {config.method} has no such term; leave it out")
        trainer = Trainer(config, method, dataset, procs)

        with locked(config.checkpoint_path) if procs.is_main else nullcontext():
            checkpoint = choose_checkpoint(config.resume, config.checkpoint_path)
            if checkpoint:
                trainer.resume(*checkpoint)
            check_equal((trainer.epoch, trainer.step), "the epoch and step that they go on from", procs)
            start_log(config.checkpoint_path, "pretrain", procs.rank)
            titles = [f"{d.title}, {p.long_name} ({d.path})" for d, (_, p) in zip(packed, sources)]
            log.info(describe_run(trainer, titles))
            if checkpoint:
                path, state = checkpoint
                log.info(f"going on from {path}, after {progress_text(trainer.epoch, trainer.step)}")
                before = state.get("args", {}).get("milestones", list(config.milestones))
                if before != list(config.milestones):
                    log.warning(f"warning: --schedule was {before}, now it is {list(config.milestones)}")
            if procs.is_main and (trainer.epoch < config.epochs or not checkpoint):
                write_json(config.checkpoint_path / "config.json", config.to_json() | {"view": repr(trainer.view)})
            if procs.is_main and config.resume == "none":
                for path in checkpoints.in_folder(config.checkpoint_path):  # or a later run would go on from them
                    path.unlink(missing_ok=True)
            if not config.epochs and not checkpoint:
                trainer.save()
            if trainer.epoch < config.epochs:
                train(trainer, packed[0])
            else:
                log.info(f"nothing to train: {trainer.epoch} of {counted(config.epochs, 'epoch')} done")


def train(trainer: Trainer, packed: PackedDataset) -> None:
    """Train the remaining epochs, or until a signal; log, measure and save. `packed` is the data of --knn-every."""
    from tools.evaluation.knn import neighbour_accuracy
    from tools.training.report import epoch_line, progress_text
    from utils.logs import EpochLog
    from utils.processes import StopSignal, barrier

    config, procs = trainer.config, trainer.procs
    trainer.start()
    epochs = EpochLog(config.checkpoint_path, trainer.epoch, config.to_json()) if procs.is_main else None
    with StopSignal() as stop:
        for epoch in range(trainer.epoch, config.epochs):
            metrics = trainer.train_epoch(stop)
            is_last = epoch == config.epochs - 1
            if epochs and metrics:
                if config.knn_every and (trainer.epoch % config.knn_every == 0 or is_last):
                    encoder = trainer.method.encoder
                    metrics["knn/top1"] = neighbour_accuracy(encoder, trainer.dataset, packed, config.protocol)
                epochs.write(epoch, metrics)
                log.info(epoch_line(epoch, config.epochs, metrics))
            stopped = stop.agreed(procs)
            if stopped or epoch % config.save_freq == 0 or is_last:
                trainer.save()
            if stopped:
                barrier(procs)  # or torchrun, seeing one of them end, would kill the one that saves
                break
    if epochs:
        epochs.close()
    if stop.received and trainer.epoch < config.epochs:
        done = progress_text(trainer.epoch, trainer.step)
        log.info(f"stopped by {signal.Signals(stop.received).name} after {done}; the same command goes on")
        sys.exit(128 + stop.received)


def choose_checkpoint(resume: str, folder: Path) -> tuple[Path, dict] | None:
    """Read the checkpoint that --resume chooses, if there is one."""
    if resume == "auto":
        return checkpoints.newest_readable(folder)
    return None if resume == "none" else (Path(resume), checkpoints.load(Path(resume)))


if __name__ == "__main__":
    run(main)

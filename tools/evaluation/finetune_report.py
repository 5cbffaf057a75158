"""Fine-tuning on all labels or few, once a seed, and its report: `action_recognition.py --finetune`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from data_gen.recipes import FINETUNE
from feeder.clips import ClipDataset
from tools.evaluation.label_subsets import stratified
from tools.evaluation.scores import Curves, Validation, best_and_last, curves, history, log_scores
from tools.evaluation.setup import EvaluationSetup, load_setup
from tools.training.finetune import Score, finetune, new_classifier
from tools.utils.distributed import Processes, check_equal, processes
from tools.utils.precision import choose_amp


def report_finetuning(args: argparse.Namespace) -> None:
    """Fine-tune with every modality, fraction of the labels and seed that `args` name, and write a JSON for each
    modality. Raises UserError."""
    with processes(args.device) as procs:
        args.amp = choose_amp(args.amp, procs.device)
        setup = load_setup(args, procs.device)
        kind = "semi_supervised" if args.label_fraction else "finetune"
        setup.start_log(kind, procs.rank)
        found = setup.result
        check_equal((Path(found["checkpoint"]).name, found["train"], found["val"]), "the checkpoint and the recordings")
        # All recordings: one copy on a GPU serves both sides and every subset.
        source = ClipDataset.of_dataset(setup.packed, np.arange(len(setup.packed)), procs.device)
        for name in setup.modalities:
            shares: list[dict] = []
            points: Curves = {}
            for fraction in args.label_fraction or [1.0]:
                labelled, validations = _finetune(args, setup, source, name, fraction, procs)
                runs = range(len(args.seed))
                scores = {"fraction": fraction, "labelled": labelled, **best_and_last(validations, runs)}
                log_scores(_title(args, name, fraction, labelled), scores)
                shares.append(scores | {"history": history(validations)})
                points |= curves(validations, runs, args.seed, f"_{fraction:g}" if args.label_fraction else "")
            if procs.is_main:
                result = {"fractions": shares} if args.label_fraction else shares[0]
                setup.write(_task(kind, setup, args.from_scratch), name, result, points)


def _task(kind: str, setup: EvaluationSetup, from_scratch: bool) -> str:
    """The name of the task, and of its JSON."""
    if setup.is_transfer:
        transfer = "transfer_{dataset}_{protocol}".format_map(setup.result)
        kind = transfer if kind == "finetune" else f"{transfer}_{kind}"
    return kind + "_scratch" * from_scratch


def _finetune(
    args: argparse.Namespace,
    setup: EvaluationSetup,
    source: ClipDataset,
    name: str,
    fraction: float,
    procs: Processes,
) -> tuple[int, list[Validation]]:
    """Fine-tune on a fraction of the labels with every seed; returns the number of labels and the validations."""
    recipe = replace(
        FINETUNE, lr=args.lr[0], epochs=args.epochs, schedule=tuple(args.schedule), batch_size=args.batch_size
    )
    packed, train = setup.packed, setup.split["train"]
    val = torch.from_numpy(setup.split["val"])
    runs: list[list[Score]] = []
    for seed in args.seed:
        rows = torch.from_numpy(train[stratified(packed.names[train], packed.label[train], fraction, seed)])
        title = f"{_title(args, name, fraction, len(rows))}, seed {seed}"
        backbone = setup.encoder.backbone
        (stream,) = setup.modalities[name]
        model = new_classifier(backbone, stream, packed.num_classes, seed, args.from_scratch)
        runs.append(finetune(model, source, rows, val, recipe, seed, procs, args.amp, args.compile, title))
        if len(args.seed) > 1:
            best = max(score.top1 for score in runs[-1])
            logging.getLogger("umurl").info(f"{title}: last {runs[-1][-1].top1:.2f} %, best {best:.2f} %")
    together = [
        Validation(due[0].epoch, [s.top1 for s in due], [s.top5 for s in due], [s.loss for s in due])
        for due in zip(*runs)
    ]
    return len(rows), together


def _title(args: argparse.Namespace, name: str, fraction: float, labelled: int) -> str:
    what = "training from scratch" if args.from_scratch else "fine-tuning"
    return f"{what}, {name}, {100 * fraction:g} % of the labels ({labelled:,} recordings)"

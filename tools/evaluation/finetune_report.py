"""Fine-tuning on all labels or few, once a seed, and its report: `action_recognition.py --finetune`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from feeder.clips import ClipDataset
from tools.evaluation.label_subsets import stratified
from tools.evaluation.metrics import format_summary, summary
from tools.evaluation.setup import EvaluationSetup, Report, folder_of, load_setup
from tools.training.finetune import FinetuneOptions, Score, finetune, new_classifier
from tools.utils.distributed import Processes, check_equal, detect, processes
from tools.utils.logs import start_log
from tools.utils.precision import choose_amp

log = logging.getLogger("umurl")


def report_finetuning(args: argparse.Namespace) -> None:
    """Fine-tune with every modality, fraction of the labels and seed that `args` name, and write a JSON for each
    modality. Raises UserError."""
    kind = "semi_supervised" if args.label_fraction else "finetune"
    folder = folder_of(args.pretrained)
    if folder.is_dir():
        start_log(folder, kind, detect()[0])
    with processes(args.device) as procs:
        args.amp = choose_amp(args.amp, procs.device)
        setup = load_setup(args, procs.device)
        found = setup.result
        check_equal((Path(found["checkpoint"]).name, found["train"], found["val"]), "the checkpoint and the recordings")
        report = Report(_task(kind, setup, args.from_scratch), folder, found)
        # All recordings: one copy on a GPU serves both sides and every subset.
        source = ClipDataset.of_dataset(setup.packed, np.arange(len(setup.packed)), procs.device)
        for name in setup.modalities:
            shares = [_share(args, setup, source, name, part, procs) for part in args.label_fraction or [1.0]]
            if procs.is_main:
                log.info(f"written to {_write(report, name, shares, args)}")


def _task(kind: str, setup: EvaluationSetup, from_scratch: bool) -> str:
    if setup.is_transfer:
        transfer = "transfer_{dataset}_{protocol}".format_map(setup.result)
        kind = transfer if kind == "finetune" else f"{transfer}_{kind}"
    return kind + "_scratch" * from_scratch


def _share(
    args: argparse.Namespace, setup: EvaluationSetup, source: ClipDataset, name: str, part: float, procs: Processes
) -> dict:
    """Fine-tune on a fraction of the labels with every seed; its scores."""
    options = FinetuneOptions(args.lr[0], args.epochs, tuple(args.schedule), args.batch_size, amp=args.amp)
    packed, train = setup.packed, setup.split["train"]
    val = torch.from_numpy(setup.split["val"])
    what = "training from scratch" if args.from_scratch else "fine-tuning"
    runs = []
    for seed in args.seed:
        rows = torch.from_numpy(train[stratified(packed.names[train], packed.label[train], part, seed)])
        title = f"{what}, {name}, {100 * part:g} % of the labels ({len(rows):,} recordings)"
        model = new_classifier(setup.backbone, setup.modalities[name], packed.num_classes, seed, args.from_scratch)
        runs.append(finetune(model, source, rows, val, options, seed, procs, f"{title}, seed {seed}"))
        if len(args.seed) > 1:
            log.info(f"{title}, seed {seed}: best {_best(runs[-1]).top1:.2f} %, last {runs[-1][-1].top1:.2f} %")
    chosen = {"best": _summaries([_best(run) for run in runs]), "last": _summaries([run[-1] for run in runs])}
    for which, scores in chosen.items():
        top1, top5 = (format_summary(scores[k], 2) for k in ("top1", "top5"))
        log.info(f"{title}, {which}: top-1 {top1} %, top-5 {top5} %")
    history = [
        {"epoch": due[0].epoch} | {k: [getattr(score, k) for score in due] for k in ("top1", "top5", "loss")}
        for due in zip(*runs)
    ]
    return {"fraction": part, "labelled": len(rows), **chosen, "history": history}


def _best(run: list[Score]) -> Score:
    return max(run, key=lambda score: score.top1)


def _summaries(scores: list[Score]) -> dict:
    """Of one score a seed."""
    return {
        "epoch": [s.epoch for s in scores],
        "top1": summary([s.top1 for s in scores]),
        "top5": summary([s.top5 for s in scores]),
    }


def _write(report: Report, name: str, shares: list[dict], args: argparse.Namespace) -> Path:
    """A modality's JSON and curves."""
    curves = {}
    for share in shares:
        which = f"_{share['fraction']:g}" if args.label_fraction else ""
        for metric in ("top1", "top5", "loss"):
            for i, seed in enumerate(args.seed):
                curves[f"{metric}_seed{seed}{which}"] = [(h["epoch"], h[metric][i]) for h in share["history"]]
    return report.finish(name, {"fractions": shares} if args.label_fraction else shares[0], curves)

"""The linear probe's report: `action_recognition.py` without --finetune."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from feeder.modalities import MODALITIES
from tools.evaluation.linear_classifier import file_of
from tools.evaluation.metrics import format_summary, mean_of_classes, summary
from tools.evaluation.probe import LinearProbe, ProbeOptions, Validation, train_probes
from tools.evaluation.setup import Evaluation, prepare
from tools.utils import checkpoints

RECIPE = ProbeOptions()


def report_probe(args: argparse.Namespace) -> None:
    """Train a probe on every modality, learning rate and seed that `args` name, and write a JSON for each modality.
    Raises UserError."""
    evaluation = prepare(args, "action_recognition")
    rates = tuple(args.lr)
    options = ProbeOptions(rates, args.epochs, tuple(args.schedule), args.batch_size)
    probes = {
        name: LinearProbe(features, evaluation.train_labels, evaluation.num_classes, options, args.seed)
        for name, features in evaluation.train.items()
    }
    fused = late_fusion(list(probes))
    found = train_probes(probes, evaluation.val, evaluation.val_labels, fused)
    log = logging.getLogger("umurl")
    for name, validations in found.items():
        streams = {"streams": fused[name]} if name in fused else {}
        path = report(evaluation, name, validations, rates, args.seed, streams)
        if name in probes:
            save_classifier(evaluation, name, probes[name])
        log.info(f"written to {path}")


def late_fusion(names: list[str]) -> dict[str, list[str]]:
    """The sum of the single modalities' scores, where there are several, under the name of its row."""
    single = [m for m in MODALITIES if m in names]
    if len(single) < 2:
        return {}
    return {"late" if len(single) == len(MODALITIES) else "late_" + "+".join(single): single}


def report(
    evaluation: Evaluation,
    name: str,
    validations: list[Validation],
    rates: tuple[float, ...],
    seeds: list[int],
    more: dict,
) -> str:
    """Log the best and the last scores, write a modality's JSON and its curves; the JSON's path."""
    log = logging.getLogger("umurl")
    scores: list[dict[str, Any]] = []
    curves = {}
    for i, lr in enumerate(rates):
        runs = range(i * len(seeds), (i + 1) * len(seeds))
        chosen = {"best": [_best(validations, n) for n in runs], "last": [validations[-1]] * len(seeds)}
        scores.append({"lr": lr} | {which: _summaries(those, runs) for which, those in chosen.items()})
        which_rate = f"_lr{lr:g}" * (len(rates) > 1)
        for metric in ("top1", "top5", "loss"):
            for seed, n in zip(seeds, runs):
                points = [(v.epoch, getattr(v, metric)[n]) for v in validations if getattr(v, metric)]
                curves[f"{metric}_seed{seed}{which_rate}"] = points
        mark = _mark(lr, evaluation.result["args"])
        for which in chosen:
            top1, top5 = (format_summary(scores[i][which][k], 2) for k in ("top1", "top5"))
            log.info(f"linear probe, {name}, rate {lr:g}{mark}, {which}: top-1 {top1} %, top-5 {top5} %")
    history = [{k: x for k, x in vars(v).items() if k != "per_class"} for v in validations]
    result = scores[0] | ({"rates": scores} if len(rates) > 1 else {}) | more | {"history": history}
    return str(evaluation.finish(name, result, curves))


def _best(validations: list[Validation], run: int) -> Validation:
    return max(validations, key=lambda v: v.top1[run])


def _mark(lr: float, args: dict[str, Any]) -> str:
    used = ProbeOptions((lr,), args["epochs"], tuple(args["schedule"]), args["batch_size"])
    return " (the published recipe)" if used == RECIPE else ""


def _summaries(validations: list[Validation], runs: range) -> dict:
    """Of one validation a run, each of another seed."""
    return {
        "epoch": [v.epoch for v in validations],
        "top1": summary([v.top1[run] for v, run in zip(validations, runs)]),
        "top5": summary([v.top5[run] for v, run in zip(validations, runs)]),
        "per_class": mean_of_classes([v.per_class[run] for v, run in zip(validations, runs)]),
    }


def save_classifier(evaluation: Evaluation, name: str, probe: LinearProbe) -> None:
    """The classifier of the first rate and seed after its last epoch, beside the JSON and under the same name."""
    result = evaluation.result
    state = {"weight": probe.weight[0].cpu().clone(), "bias": probe.bias[0].cpu().clone(), "modality": name}
    keys = ("dataset", "protocol", "checkpoint", "encoder", "epoch", "hidden_size", "versions")
    state |= {key: result[key] for key in keys}
    state["classes"] = evaluation.classes
    checkpoints.write(evaluation.folder / file_of(name), state)

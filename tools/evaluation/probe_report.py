"""Report the linear probe: `action_recognition.py` without --finetune."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from data_gen.recipes import LINEAR_PROBE
from feeder.modality_names import MODALITIES
from tools.evaluation.earliness import TASK as EARLINESS
from tools.evaluation.earliness import report_earliness
from tools.evaluation.linear_classifier import file_of
from tools.evaluation.probe import LinearProbe, train_probes
from tools.evaluation.representation import Representation
from tools.evaluation.scores import Curves, Validation, best_and_last, curves, history, log_scores
from tools.evaluation.setup import EvaluationSetup, extract_sides, load_setup
from tools.utils import checkpoints
from tools.utils.distributed import single_process
from tools.utils.kept_results import check_results
from tools.utils.options import classes_of

TASK = "action_recognition"


def report_probe(args: argparse.Namespace) -> None:
    """Train a probe for every modality, learning rate and seed in `args`, and write a JSON for each modality. Raises
    UserError if that is impossible."""
    setup = load_setup(args, single_process(args.device, f"{TASK}.py"))
    if args.observed:
        check_results(setup.folder, EARLINESS + setup.where)
    setup.start_log(TASK)
    representations, train, val = extract_sides(setup)
    recipe = replace(LINEAR_PROBE, epochs=args.epochs, schedule=tuple(args.schedule), batch_size=args.batch_size)
    probes = {
        name: LinearProbe(features, train.labels, setup.packed.num_classes, recipe, args.seed, args.lr)
        for name, features in train.features.items()
    }
    fused = late_fusion(list(probes))
    represented = {each.name: each for each in representations}
    for name, validations in train_probes(probes, val.features, val.labels, fused).items():
        is_plain = name in fused or not represented[name].variant
        is_published = [is_plain and replace(recipe, lr=lr) == LINEAR_PROBE for lr in args.lr]
        scores, points = _scores(name, validations, args.lr, args.seed, is_published)
        result = scores[0] | ({"rates": scores} if len(scores) > 1 else {})
        if name in fused:
            result["streams"] = fused[name]
        setup.write(TASK, name, result | {"history": history(validations)}, points)
        if name in probes:
            save_classifier(setup, represented[name], probes[name])
            probability = probes[name].scores(val.features[name])[0].softmax(1).max(1)
            more = {"probability": [f"{value:.4f}" for value in probability.values.tolist()]}
            setup.write_predictions(TASK, name, probability.indices, more)
    if args.observed:
        report_earliness(setup, representations, probes, args.observed, args.seed)


def late_fusion(names: list[str]) -> dict[str, list[str]]:
    """Return {name of the late fusion: the single modalities in `names`}; empty if they are fewer than two."""
    single = [m for m in MODALITIES if m in names]
    if len(single) < 2:
        return {}
    return {"late" if len(single) == len(MODALITIES) else "late_" + "+".join(single): single}


def _scores(
    name: str, validations: list[Validation], lrs: list[float], seeds: list[int], is_published: list[bool]
) -> tuple[list[dict[str, Any]], Curves]:
    """Log a modality's best and last scores per learning rate. Return them and the curves."""
    scores: list[dict[str, Any]] = []
    points: Curves = {}
    for i, lr in enumerate(lrs):
        runs = range(i * len(seeds), (i + 1) * len(seeds))
        chosen = best_and_last(validations, runs)
        log_scores(f"linear probe, {name}, rate {lr:g}" + " (the published recipe)" * is_published[i], chosen)
        scores.append({"lr": lr} | chosen)
        points |= curves(validations, runs, seeds, f"_lr{lr:g}" * (len(lrs) > 1))
    return scores, points


def save_classifier(setup: EvaluationSetup, representation: Representation, probe: LinearProbe) -> None:
    """Write the classifier of the first learning rate and seed after its last epoch, beside the JSON, with its name."""
    keys = ("dataset", "protocol", "checkpoint", "encoder", "epoch", "hidden_size", "versions")
    tensors = {"weight": probe.weight[0], "bias": probe.bias[0]} | representation.tensors()
    state: dict[str, Any] = {key: tensor.cpu().clone() for key, tensor in tensors.items()}
    state |= {"modality": representation.modality, "variant": representation.variant}
    state |= {key: setup.result[key] for key in keys} | {"classes": classes_of(setup.packed)}
    checkpoints.write(setup.folder / file_of(representation.name, setup.where), state)

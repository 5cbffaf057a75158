"""Evaluate earliness: recognise clips from their first frames alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from feeder.clips import ClipDataset
from tools.evaluation.probe import LinearProbe
from tools.evaluation.representation import Representation
from tools.evaluation.scores import Curves
from tools.evaluation.setup import EvaluationSetup, plain_features, represent
from tools.utils.metrics import format_summary, summary, top_k_accuracy
from tools.utils.tables import table

TASK = "earliness"
_METRICS = {"top1": 1, "top5": 5}


def report_earliness(
    setup: EvaluationSetup,
    representations: Sequence[Representation],
    probes: Mapping[str, LinearProbe],
    shares: Sequence[float],
    seeds: Sequence[int],
) -> None:
    """Classify the val side from the first `shares` of each clip, by the `probes` of the same representations (trained
    at their first learning rate). Log a table, and write a JSON and a curve for each representation."""
    encoder = setup.encoder
    source = ClipDataset.of_dataset(setup.packed, setup.split["val"], encoder.device)
    labels = source.label.to(encoder.device)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in probes}
    for share in shares:
        plain = plain_features(setup, source.first_part(share), f"features, first {100 * share:g} %")
        for name, feature in represent(representations, plain).items():
            scores = probes[name].scores(feature)[: len(seeds)]
            top = {m: summary([top_k_accuracy(run, labels, k) for run in scores]) for m, k in _METRICS.items()}
            found[name].append({"observed": share, **top})
    log = logging.getLogger("umurl")
    columns = [[f"{100 * share:g} %" for share in shares]]
    columns += [[format_summary(entry["top1"], 2) for entry in entries] for entries in found.values()]
    log.info("top-1 in %, by how much of each clip is observed\n" + table(["observed", *found], list(zip(*columns))))
    for name, entries in found.items():
        curves: Curves = {
            f"{metric}_seed{seed}": [(round(100 * e["observed"]), e[metric]["per_seed"][run]) for e in entries]
            for metric in _METRICS
            for run, seed in enumerate(seeds)
        }
        setup.write(TASK, name, {"scores": entries}, curves)

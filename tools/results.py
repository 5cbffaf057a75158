"""Print the scores under checkpoints/ beside the published ones: `python -m tools.results [TEST_NAME...]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from data_gen.datasets import DATASETS
from tools.utils.errors import UserError, run
from tools.utils.metrics import format_summary
from tools.utils.options import RUNS, find_run
from tools.utils.tables import table

FROZEN = ("run", "data", "epochs", "modality", "recognition best", "recognition last", "retrieval", "mAP")
FINETUNED = ("run", "data", "epochs", "modality", "task", "labelled", "recognition best", "recognition last")
MODALITY_ORDER = ("all", "joint", "bone", "motion")


def read_results(folder: Path) -> list[dict]:
    """Read the JSON files of a run's evaluations. Raises UserError where one is damaged."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text())
        except (ValueError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}); evaluate that run again") from error
        if isinstance(result, dict) and "modality" in result and "task" in result:
            found.append(result)
    return found


def frozen_rows(name: str, results: list[dict]) -> list[tuple[str, ...]]:
    """Make a row of linear probe and retrieval for each data set, protocol and modality of a run's evaluations."""
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for result in results:
        for task in ("action_recognition", "action_retrieval"):
            if result["task"].startswith(task):
                found.setdefault((_data(result), result["modality"]), {})[task] = result
    rows = []
    for (data, modality), tasks in sorted(found.items(), key=lambda item: (item[0][0], *_place(item[0][1]))):
        epochs = " / ".join(dict.fromkeys(str(t["epoch"]) for t in tasks.values()))
        probe, retrieval = tasks.get("action_recognition"), tasks.get("action_retrieval")
        recognised = [format_summary(probe[which]["top1"]) for which in ("best", "last")] if probe else ["-", "-"]
        retrieved = [_top1(retrieval), f"{retrieval['map']:.1f}"] if retrieval else ["-", "-"]
        rows.append((name, data, epochs, modality, *recognised, *retrieved))
    return rows


def finetuned_rows(name: str, results: list[dict]) -> list[tuple[str, ...]]:
    """Make a row of fine-tuning for each task, modality and fraction of the labels."""
    rows = []
    for result in sorted(results, key=lambda r: (r["task"], *_place(r["modality"]))):
        if result["task"].startswith("action_"):
            continue
        task = result["task"].removesuffix(f"_{result['modality']}").replace("_", " ")
        for share in result.get("fractions", [result]):
            labelled = f"{share['labelled']:,} ({100 * share['fraction']:g} %)"
            scores = (format_summary(share[which]["top1"]) for which in ("best", "last"))
            rows.append((name, _data(result), str(result["epoch"]), result["modality"], task, labelled, *scores))
    return rows


def published_rows(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Make rows of the paper's scores on the protocols that `rows` have."""
    found: list[tuple[str, ...]] = []
    for dataset in DATASETS.values():
        for protocol in dataset.protocols:
            data, scores = f"{dataset.name} {protocol.name}", protocol.published_scores
            if scores and any(row[1] == data for row in rows):
                epochs = str(protocol.recipe.epochs)
                found.append(("published (paper)", data, epochs, "all", f"{scores[0]}", "-", f"{scores[1]}", "-"))
    return found


def _data(result: dict) -> str:
    return f"{result['dataset']} {result['protocol']}"


def _place(modality: str) -> tuple[int, str]:
    return (MODALITY_ORDER.index(modality) if modality in MODALITY_ORDER else len(MODALITY_ORDER), modality)


def _top1(retrieval: dict) -> str:
    return f"{retrieval['top1']:.1f}" + (f" (k={retrieval['k']})" if retrieval["k"] > 1 else "")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Top-1 accuracies in % of the runs under checkpoints/.")
    parser.add_argument("test_names", nargs="*", metavar="TEST_NAME", help="runs; default: all of them")
    args = parser.parse_args(argv)
    folders = [find_run(name) for name in args.test_names] or sorted(p for p in RUNS.glob("*") if p.is_dir())
    results = {folder.name: read_results(folder) for folder in folders}
    frozen = [row for name, found in results.items() for row in frozen_rows(name, found)]
    finetuned = [row for name, found in results.items() for row in finetuned_rows(name, found)]
    if not frozen and not finetuned:
        raise UserError(f"no scores in {', '.join(map(str, folders)) or RUNS}: run the evaluation scripts first")
    if frozen:
        print("Frozen encoder, in %: top-1 of the linear probe (best and last validation), of the nearest neighbour's")
        print("label, and mean average precision\n")
        print(table(FROZEN, frozen + published_rows(frozen)))
    if finetuned:
        print("\n" * bool(frozen) + "Fine-tuned encoder, top-1 in %, mean ± deviation over seeds\n")
        print(table(FINETUNED, finetuned))


if __name__ == "__main__":
    run(main)

"""One table of the scores under checkpoints/: `python -m tools.results [TEST_NAME...]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from data_gen.datasets import ROOT
from tools.errors import UserError, run

COLUMNS = ("run", "epochs", "modality", "recognition best", "recognition last", "retrieval")


def rows_of(folder: Path) -> list[tuple[str, ...]]:
    """A row for each modality that a run was evaluated with."""
    found: dict[str, dict[str, dict]] = {}
    for task in ("action_recognition", "action_retrieval"):
        for path in sorted(folder.glob(f"{task}*.json")):
            try:
                result = json.loads(path.read_text())
            except ValueError as error:
                raise UserError(f"{path} is damaged ({error}); evaluate that run again") from error
            found.setdefault(result["modality"], {})[task] = result
    rows = []
    for modality, tasks in found.items():
        epochs = " / ".join(dict.fromkeys(str(t["epoch"]) for t in tasks.values()))
        probe, retrieval = tasks.get("action_recognition"), tasks.get("action_retrieval")
        scores = [_mean(probe["best"]["top1"]), _mean(probe["last"]["top1"])] if probe else ["-", "-"]
        scores.append(
            f"{retrieval['top1']:.1f}" + (f" (k={retrieval['k']})" if retrieval["k"] > 1 else "") if retrieval else "-"
        )
        rows.append((folder.name, epochs, modality, *scores))
    return rows


def _mean(s: dict) -> str:
    return f"{s['mean']:.1f}" + (f" ± {s['std']:.1f}" if len(s["per_seed"]) > 1 else "")


def table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table that also reads well in a terminal."""
    widths = [max(len(r[i]) for r in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
    lines = [COLUMNS, tuple("-" * w for w in widths), *rows]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Top-1 accuracies in %% of the runs under checkpoints/.")
    parser.add_argument("test_names", nargs="*", metavar="TEST_NAME", help="runs; default: all of them")
    args = parser.parse_args(argv)
    root = ROOT / "checkpoints"
    for name in args.test_names:
        if not (root / name).is_dir():
            raise UserError(f"there is no run {root / name}")
    folders = [root / name for name in args.test_names] or sorted(p for p in root.glob("*") if p.is_dir())
    rows = [row for folder in folders for row in rows_of(folder)]
    if not rows:
        raise UserError(f"no scores in {', '.join(map(str, folders)) or root}: run the evaluation scripts first")
    print("Top-1 accuracy in %: linear probe (best and last validation), retrieval by nearest neighbour\n")
    print(table(rows))


if __name__ == "__main__":
    run(main)

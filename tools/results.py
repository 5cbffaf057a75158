"""Print the scores under checkpoints/ beside the published ones: `python -m tools.results [TEST_NAME...]`.

Runs whose names differ in the number of a fold (mine_fold1, mine_fold2) or of a seed (..._s0, ..._seed1) also get a row
together: the mean and the deviation of their scores.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from data_gen.packed.atomic import atomic_write
from data_gen.packed.info import is_one_line
from models.checkpoint_files import stem_of

from data_gen.datasets import DATASETS
from tools.detection.metrics import MARKED
from tools.utils.errors import UserError, run
from tools.utils.metrics import format_summary, summary
from tools.utils.options import RUNS, HelpFormatter, find_run, output_file
from tools.utils.result_files import RECIPE, reading, results_in, settings_of
from tools.utils.tables import table

FROZEN = ("run", "data", "epochs", "modality"), ("recognition last", "recognition best*", "retrieval", "mAP")
FINETUNED = (*FROZEN[0], "task", "labelled"), ("recognition last", "recognition best*")
BEST = "* the highest of the validations of that classifier, so chosen on the val side"
DETECTED = (*FROZEN[0], "encoder"), ("mAP by action", "mAP by video", "F1 of frames")
MODALITY_ORDER = ("all", "joint", "bone", "motion")
_SEED = re.compile(r"_(s|seed)\d+(?=_|$)")


class ScoreRow(NamedTuple):
    """Hold what was evaluated, its scores (summaries in %, None if not evaluated), and what the evaluation was told:
    epochs, learning rates and the like, without seeds."""

    cells: tuple[str, ...]
    scores: tuple[dict[str, Any] | None, ...]
    settings: str = ""

    def texts(self) -> list[str]:
        return [
            *self.cells,
            *(format_summary(score) + score.get("note", "") if score else "-" for score in self.scores),
        ]


@dataclass(frozen=True)
class ScoreTable:
    """Hold a title, the columns of the cells and of the scores, and the rows."""

    title: str
    columns: tuple[tuple[str, ...], tuple[str, ...]]
    rows: list[ScoreRow]

    def texts(self) -> list[list[str]]:
        return [[*self.columns[0], *self.columns[1]], *(row.texts() for row in self.rows)]


def read_results(folder: Path) -> list[dict]:
    """Read the JSON files of a run's evaluations. `kept` of each is the date by which the file of one is called that a
    later one replaced. Raises UserError where one is damaged."""
    found = []
    for path, result in results_in(folder):
        if "modality" in result and "task" in result:
            with reading(path):
                result |= {"kept": path.stem.removeprefix(result["task"]).strip("_")}
                for make in (frozen_rows, finetuned_rows, detection_rows):
                    for row in make("", [result]):
                        if not all(map(is_one_line, row.texts())):
                            raise ValueError("a text of several lines")
            found.append(result)
    return found


def frozen_rows(name: str, results: list[dict]) -> list[ScoreRow]:
    """Make a row of linear probe and retrieval for each encoder, data set, protocol and modality of a run's
    evaluations, and for each that was kept."""
    found: dict[tuple[str, ...], dict[str, dict]] = {}
    for result in results:
        for task in ("action_recognition", "action_retrieval"):
            if result["task"].startswith(task):
                which = (_run(name, result), _data(result), result["modality"], result.get("where", ""))
                found.setdefault(which, {})[task] = result
    rows = []
    for (name, data, modality, _), tasks in sorted(found.items(), key=lambda i: (*i[0][:2], *_place(i[0][2]), i[0][3])):
        epochs = " / ".join(dict.fromkeys(str(t["epoch"]) for t in tasks.values()))
        probe, retrieval = tasks.get("action_recognition"), tasks.get("action_retrieval")
        recognised = [probe["last"]["top1"], probe["best"]["top1"]] if probe else [None, None]
        retrieved: list[dict | None] = [None, None]
        if retrieval:
            note = f" (k={retrieval['k']})" if retrieval["k"] > 1 else ""
            retrieved = [
                summary([retrieval["top1"]]) | {"note": note},
                None if retrieval["map"] is None else summary([retrieval["map"]]),
            ]
        rows.append(ScoreRow((name, data, epochs, modality), (*recognised, *retrieved), _settings(*tasks.values())))
    return rows


def finetuned_rows(name: str, results: list[dict]) -> list[ScoreRow]:
    """Make a row of fine-tuning for each task, modality and fraction of the labels."""
    rows = []
    for result in sorted(results, key=lambda r: (r["task"], *_place(r["modality"]))):
        if result["task"].startswith(("action_", "detection", "earliness")):
            continue
        task = result["task"].removesuffix(f"_{result['modality']}").removesuffix(result.get("where", ""))
        cells = (_run(name, result), _data(result), str(result["epoch"]), result["modality"])
        shares = result.get("fractions", [result])
        for share in shares:
            labelled = f"{share['labelled']:,} ({100 * share['fraction']:g} %)"
            if [other["fraction"] for other in shares].count(share["fraction"]) > 1:
                labelled += f", seeds {' '.join(map(str, share.get('seeds', ['?'])))}"
            scores = (share["last"]["top1"], share["best"]["top1"])
            rows.append(ScoreRow((*cells, task.replace("_", " "), labelled), scores, _settings(result)))
    return rows


def detection_rows(name: str, results: list[dict]) -> list[ScoreRow]:
    """Make a row of each detector."""
    rows = []
    for result in sorted(results, key=lambda r: (r["task"], *_place(r["modality"]))):
        if result["task"].startswith("detection"):
            encoder = "fine-tuned" if result["args"]["finetune"] else "frozen"
            mean = result["mAP"][str(MARKED)]
            scores = tuple(summary([value]) for value in (mean["by_action"], mean["by_video"], result["f1"]))
            cells = (_run(name, result), _data(result), str(result["epoch"]), result["modality"], encoder)
            rows.append(ScoreRow(cells, scores, _settings(result)))
    return rows


def published_rows(rows: list[ScoreRow]) -> list[ScoreRow]:
    """Make rows of the paper's scores on the protocols that `rows` have."""
    found = []
    for dataset in DATASETS.values():
        for protocol in dataset.protocols:
            data, scores = f"{dataset.name} {protocol.name}", protocol.published_scores
            if scores and any(row.cells[1] == data for row in rows):
                cells = ("published (paper)", data, str(protocol.recipe.epochs), "all")
                found.append(ScoreRow(cells, (None, summary([scores[0]]), summary([scores[1]]), None)))
    return found


def grouped_rows(rows: list[ScoreRow]) -> list[ScoreRow]:
    """Make a row of the means of each group's rows: runs that differ in the fold or the seed alone. Runs that were
    evaluated with other settings than each other are not averaged, which a note on stderr says."""
    groups: dict[tuple[str, ...], list[ScoreRow]] = {}
    for row in rows:
        groups.setdefault(_group(row.cells), []).append(row)
    found = []
    for cells, members in groups.items():
        if len({row.settings for row in members}) > 1:
            told = " and ".join(sorted({row.settings for row in members}))
            print(f"note: no mean of {cells[0]}, evaluated with different settings: {told}", file=sys.stderr)
        elif len(members) > 1:
            scores = []
            for column in zip(*(row.scores for row in members)):
                means = [score["mean"] for score in column if score]
                scores.append(summary(means) if len(means) == len(members) else None)
            found.append(ScoreRow((f"{cells[0]} ({len(members)} runs)", *cells[1:]), tuple(scores)))
    return found


def _settings(*results: dict) -> str:
    """Format what evaluations were told, but seeds and precision."""
    settings = {key: value for result in results for key, value in settings_of(result).items()}
    told = {key: settings[key] for key in sorted(settings) if key in RECIPE and key not in ("seed", "amp")}
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in told.items())


def _group(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return a row's cells without the numbers of fold and seed, and without that of the labelled recordings."""
    name, data, *others = cells
    protocol = data.split()[-1]
    stem = re.sub(r"(?<=\D)\d+$", "*", protocol)
    if stem != protocol and f"_{protocol}" in name:
        name, data = name.replace(f"_{protocol}", f"_{stem}"), data.removesuffix(protocol) + stem
    return (_SEED.sub(r"_\1*", name), data, *(re.sub(r"^[\d,]+ \((.+ %)\)", r"\1", cell) for cell in others))


def _run(name: str, result: dict) -> str:
    """Return the run's name, with the weights' if they are no checkpoint, and the date if the result was replaced."""
    if "_of_" in result.get("where", ""):
        name += f"/{stem_of(Path(result['checkpoint']))}"
    return name + f" (kept {result['kept']})" * bool(result.get("kept"))


def _data(result: dict) -> str:
    return f"{result['dataset']} {result['protocol']}"


def _place(modality: str) -> tuple[int, str]:
    return (MODALITY_ORDER.index(modality) if modality in MODALITY_ORDER else len(MODALITY_ORDER), modality)


def write_csv(path: Path, tables: Sequence[ScoreTable]) -> None:
    """Write a line for each score: what was evaluated, the metric, its mean and deviation over `runs` seeds or runs."""
    names = list(dict.fromkeys(name for each in tables for name in each.columns[0]))
    with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*names, "metric", "mean", "std", "runs"])
        for each in tables:
            for row in each.rows:
                cells = dict(zip(each.columns[0], row.cells))
                for metric, score in zip(each.columns[1], row.scores):
                    if score:
                        values = (score["mean"], score["std"], len(score["per_seed"]))
                        lines.writerow([*(cells.get(name, "") for name in names), metric.rstrip("*"), *values])


def write_latex(path: Path, tables: Sequence[ScoreTable]) -> None:
    """Write the tables as LaTeX's tabular."""
    special = {"%": r"\%", "_": r"\_", "±": r"$\pm$", "*": "$^*$", "&": r"\&"}
    texts = []
    for each in tables:
        lines = [" & ".join(re.sub("[%_±*&]", lambda m: special[m[0]], c) for c in line) for line in each.texts()]
        body = " \\\\\n".join([f"\\hline\n{lines[0]}", f"\\hline\n{lines[1]}", *lines[2:]])
        columns = "l" * len(each.columns[0]) + "r" * len(each.columns[1])
        title = each.title.replace("\n", "\n% ")
        texts.append(f"% {title}\n\\begin{{tabular}}{{{columns}}}\n{body} \\\\\n\\hline\n\\end{{tabular}}\n")
    with atomic_write(path) as partial:
        partial.write_text("\n".join(texts), encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("test_names", nargs="*", metavar="TEST_NAME", help="runs, or their folders; default: all runs")
    parser.add_argument("--csv", type=output_file, metavar="FILE", help="also write the scores to FILE, one per line")
    parser.add_argument("--latex", type=output_file, metavar="FILE", help="also write the tables to FILE, for LaTeX")
    args = parser.parse_args(argv)
    folders = [find_run(name) for name in args.test_names] or sorted(p for p in RUNS.glob("*") if p.is_dir())
    results = {folder.name: read_results(folder) for folder in folders}
    frozen = [row for name, found in results.items() for row in frozen_rows(name, found)]
    finetuned = [row for name, found in results.items() for row in finetuned_rows(name, found)]
    detected = [row for name, found in results.items() for row in detection_rows(name, found)]
    title = (
        "Frozen encoder, in %: top-1 of the linear probe and of the nearest neighbour's label, mean average precision"
    )
    tuned = "Fine-tuned encoder, top-1 in %, mean ± deviation over seeds"
    tables = [
        ScoreTable(f"{title}\n{BEST}", FROZEN, frozen + grouped_rows(frozen) + published_rows(frozen)),
        ScoreTable(f"{tuned}\n{BEST}", FINETUNED, finetuned + grouped_rows(finetuned)),
        ScoreTable(f"Detection, in %: mAP at overlap {MARKED:g}, and F1", DETECTED, detected + grouped_rows(detected)),
    ]
    tables = [each for each in tables if each.rows]
    if not tables:
        raise UserError(f"no scores in {', '.join(map(str, folders)) or RUNS}: run the evaluation scripts first")
    print("\n\n".join(f"{each.title}\n\n{table(each.texts()[0], each.texts()[1:])}" for each in tables))
    for write, path in ((write_csv, args.csv), (write_latex, args.latex)):
        if path:
            write(path, tables)


if __name__ == "__main__":
    run(main)

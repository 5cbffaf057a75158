"""Print the results of runs beside the paper's: `python -m tools.results [TEST_NAME...]`.

Each task has a table with a row per run, data, epoch, modality and settings. A newer result replaces an older one with
equal settings; results that differ in the seed alone share a row, mean ± standard deviation. Runs whose names differ in
the number of a fold (mine_fold1, mine_fold2) or of a seed (demo_seed0, demo_seed1) also get a row with their average.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

from data_gen.datasets import DATASETS
from models import checkpoints
from utils.errors import UserError
from utils.files import RESULTS, atomic_write, format_summary, read_json, read_lines, read_results, summary
from utils.options import make_parser, output_file
from utils.processes import run
from utils.text import table

CONFIG = "config.json"
FACTS = ("run", "task", "dataset", "protocol", "epoch", "modality")
HASHES = ("encoder", "data")  # settings that differ between runs with the same recipe
OWN = ("checkpoint", *HASHES)  # shown only where rows look alike without
PAPER = (("action_recognition", "best_top1"), ("action_retrieval", "top1"))  # what Protocol.published_scores holds
BEST = "best_*: the highest of the validations during training, so chosen on the val split"
LATEX = str.maketrans({"±": r"$\pm$", **{letter: f"\\{letter}" for letter in "#$%&_{}"}})


class Row(NamedTuple):
    """The results of a run, or of an average over runs, whose name is then mine_fold*."""

    facts: dict[str, Any]  # FACTS, checkpoint, and the settings but the seed
    metrics: dict[str, dict[Any, float]]  # name → values by seed, or of an average by run


def read_rows(runs: dict[str, Path]) -> list[Row]:
    """Read the results of runs, sorted by task, data and modality. Newer values replace older ones."""
    rows: dict[str, Row] = {}
    for name, folder in runs.items():
        for result in read_results(folder):
            facts = result["settings"] | {key: result.get(key) for key in (*FACTS, "checkpoint")} | {"run": name}
            seed = facts.pop("seed", None)
            seeds = seed if isinstance(seed, list) else [seed]
            row = rows[as_key(facts)] = rows.pop(as_key(facts), Row(facts, {}))  # the newest last
            for metric, value in result["metrics"].items():
                values = value["values"] if isinstance(value, dict) else [value]
                names = seeds if len(seeds) >= len(values) else range(len(values))
                row.metrics.setdefault(metric, {}).update(zip(names, values))
    return sorted(rows.values(), key=lambda row: [as_text(row.facts[key]) for key in (*FACTS[1:4], "modality")])


def as_key(facts: dict[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True)


def as_text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(as_text, value))
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def starred(facts: dict[str, Any]) -> dict[str, str]:
    """Replace the number of fold or seed in the names of a run and of its protocol: mine_fold*, fold*."""
    name, protocol = facts["run"], as_text(facts["protocol"])
    rule = protocol.rstrip("0123456789")
    is_fold = rule != protocol and f"_{protocol}_" in f"{name}_"
    numbered = rf"fold|seed|s|{re.escape(rule)}" if is_fold else "fold|seed|s"
    star = re.sub(rf"_({numbered})\d+(?=_|$)", r"_\1*", name)
    return {"run": star, "protocol": f"{rule}*" if is_fold else protocol}


def average(rows: list[Row]) -> list[Row]:
    """Average over runs that differ in fold or seed alone. Notes on stderr name other settings that differ."""
    groups: dict[tuple, dict[str, Row]] = {}  # run*, task, data and modality → an average for each choice of settings
    for row in rows:
        facts = {key: value for key, value in row.facts.items() if key not in HASHES} | starred(row.facts)
        group = groups.setdefault(tuple(facts[key] for key in FACTS if key != "epoch"), {})
        mean = group.setdefault(as_key(facts), Row(facts, {}))
        for metric, values in row.metrics.items():
            mean.metrics.setdefault(metric, {})[row.facts["run"]] = statistics.fmean(values.values())
    averages = []
    for (star, task, _, _, modality), group in groups.items():
        names = {key: set().union(*mean.metrics.values()) for key, mean in group.items()}
        partial = [group[key].facts for key in group if names[key] < set().union(*names.values())]
        if keys := differing(partial):
            print(f"note: {task}, {modality}: no average of {star}, which differ in {', '.join(keys)}", file=sys.stderr)
        for facts, metrics in group.values():
            if several := {metric: values for metric, values in metrics.items() if len(values) > 1}:
                averages.append(Row(facts, several))
    return averages


def differing(facts: list[dict[str, Any]]) -> list[str]:
    """List the keys whose values differ."""
    keys = dict.fromkeys(key for each in facts for key in each)
    return [key for key in keys if len({as_text(each.get(key)) for each in facts}) > 1]


def paper_rows(rows: list[Row]) -> list[Row]:
    """Return the paper's figures for the tasks and protocols of `rows`."""
    shown = {tuple(row.facts[key] for key in ("task", "dataset", "protocol")) for row in rows}
    return [
        Row(dict(zip(FACTS, ("published (paper)", task, data.name, p.name, None, "all"))), {metric: {None: figure}})
        for data in DATASETS.values()
        for p in data.protocols
        for (task, metric), figure in zip(PAPER, p.published_scores or ())
        if (task, data.name, p.name) in shown
    ]


def make_table(rows: list[Row], runs: dict[str, str]) -> list[list[str]]:
    """Make the header and the lines of a task's table. `runs` maps each run to a note on it; settings that differ
    between their rows have a column."""
    own = [row.facts for row in rows if row.facts["run"] in runs]
    different = differing(own)
    settings = [key for key in different if key not in (*FACTS, *OWN)]
    if len({as_text([facts.get(key) for key in (*FACTS, *settings)]) for facts in own}) < len(own):
        settings += [key for key in OWN if key in different]
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    counts = [max(map(len, row.metrics.values())) for row in rows]
    with_seeds = max(counts[: len(own)]) > 1
    titles = [f"{key} hash" if key in HASHES else key for key in settings]
    lines = [["run", "data", "epoch", "modality", *titles, *metrics, *["seeds"] * with_seeds]]
    for (facts, scores), count in zip(rows, counts):
        name, label = facts["run"], runs.get(facts["run"], "")
        if "*" in name:
            pattern = re.escape(name).replace(r"\*", r"\d+")
            total = sum(re.fullmatch(pattern, run) is not None for run in runs)
            label = f" ({count} {f'of {total} ' if count < total else ''}runs)"
        data = f"{facts['dataset']} {as_text(facts['protocol'])}"
        texts = [as_text(facts.get(key))[: 8 if key in HASHES else None] for key in settings]
        for metric in metrics:
            mean = summary(list(scores[metric].values())) if metric in scores else None
            texts.append(format_summary(mean, 1 if abs(mean["mean"]) >= 1 else 3) if mean else "-")
        texts += [str(count) if name in runs else "-"] * with_seeds
        lines.append([name + label, data, as_text(facts["epoch"]), facts["modality"], *texts])
    return lines


def unfinished(folder: Path) -> str:
    """Return ` (21 of 24 epochs)` if a run's pre-training is unfinished, else an empty text."""
    path = folder / CONFIG
    epochs = read_json(path)["epochs"] if path.is_file() else 0
    done = max((line["epoch"] + 1 for line in read_lines(folder / "log.jsonl")), default=0)  # the log counts from 0
    return f" ({done} of {epochs} epochs)" if done < epochs else ""


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write a line per metric: facts, settings, mean, standard deviation, and the number of seeds or runs."""
    keys = dict.fromkeys([*FACTS, *(key for row in rows for key in row.facts)])
    with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*keys, "metric", "mean", "std", "number"])
        for facts, metrics in rows:
            for metric, values in metrics.items():
                result = summary(list(values.values()))
                cells = [as_text(facts.get(key, "")) for key in keys]
                lines.writerow([*cells, metric, result["mean"], result["std"], len(values)])


def write_latex(path: Path, tables: dict[str, list[list[str]]]) -> None:
    texts = []
    for task, lines in tables.items():
        body = [" & ".join(cell.translate(LATEX) for cell in line) + r" \\" for line in lines]
        start = [f"% {task}", rf"\begin{{tabular}}{{{'l' * len(lines[0])}}}", r"\hline"]
        texts.append("\n".join([*start, body[0], r"\hline", *body[1:], r"\hline", r"\end{tabular}", ""]))
    with atomic_write(path) as partial:
        partial.write_text("\n".join(texts), encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("test_names", nargs="*", metavar="TEST_NAME", help="runs, or their folders; default: all runs")
    parser.add_argument("--csv", type=output_file, metavar="FILE", help="also write one line per metric to FILE")
    parser.add_argument("--latex", type=output_file, metavar="FILE", help="also write the tables to FILE, for LaTeX")
    args = parser.parse_args(argv)
    folders = [checkpoints.find_run(name) for name in args.test_names]
    root = checkpoints.RUNS
    folders = folders or sorted({path.parent for name in (RESULTS, CONFIG) for path in root.glob(f"*/{name}")})
    names = [folder.name for folder in folders]
    paths = {f.name if names.count(f.name) == 1 else str(f): f for f in folders}
    runs = {name: unfinished(folder) for name, folder in paths.items()}
    rows, shown, tables = read_rows(paths), [], {}
    if not rows:
        raise UserError(f"{', '.join(paths) or root}: no results; evaluate a run first")
    for task in dict.fromkeys(row.facts["task"] for row in rows):
        own = [row for row in rows if row.facts["task"] == task]
        every = own + average(own) + paper_rows(own)
        tables[task] = make_table(every, runs)
        notes = [BEST] * any(metric.startswith("best_") for row in own for metric in row.metrics)
        print("\n".join([task, "", table(tables[task][0], tables[task][1:]), *notes, ""]))
        shown += every
    if idle := [name + label for name, label in runs.items() if all(row.facts["run"] != name for row in rows)]:
        print(f"note: no result of {', '.join(idle)}", file=sys.stderr)
    if args.csv:
        write_csv(args.csv, shown)
    if args.latex:
        write_latex(args.latex, tables)


if __name__ == "__main__":
    run(main)

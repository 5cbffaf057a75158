"""Print the results of runs beside the paper's: `python -m tools.results [TEST_NAME...]`.

Each task has a table with a row per run, data, epoch, modality and settings. A newer result replaces an older one with
equal settings; results that differ in the seed alone share a row, mean ± standard deviation. Runs whose names differ in
the number of a fold (mine_fold1, mine_fold2) or of a seed (demo_seed0, demo_seed1) also get a row with their average.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from data_gen.datasets import DATASETS
from models.checkpoints import RUNS, find_run
from utils.errors import UserError
from utils.files import RESULTS, atomic_write, format_summary, read_json, read_lines, read_results, reading, summary
from utils.options import make_parser, output_file
from utils.processes import run
from utils.text import table

CONFIG = "config.json"
FACTS = ("run", "task", "dataset", "protocol", "epoch", "modality")
HASHES = ("encoder", "data")  # settings that differ between runs with the same recipe
OWN = ("checkpoint", *HASHES)  # shown only where rows look alike without
PAPER = (("action_recognition", "best_top1"), ("action_retrieval", "top1"))  # what Protocol.published_scores holds
BEST = "best_*: the highest of the validations during training, so chosen on the val split"
_LETTERS = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "±": r"$\pm$"}
LATEX = str.maketrans(_LETTERS | {letter: f"\\{letter}" for letter in "#$%&_{}"})


class Score(NamedTuple):
    """A metric's values by seed, or, for an average of runs, by run."""

    facts: dict[str, Any]  # FACTS, checkpoint, and the settings but the seed; the run of an average is mine_fold*
    metric: str
    values: dict[Any, float]


def read_scores(runs: dict[str, Path]) -> list[Score]:
    """Read the results of runs, sorted by task, data and modality. Newer values replace older ones."""
    scores: dict[str, Score] = {}
    for name, folder in runs.items():
        for result in read_results(folder):
            facts = result["settings"] | {key: result.get(key) for key in (*FACTS, "checkpoint")} | {"run": name}
            seeds = facts.pop("seed", None)
            for metric, value in result["metrics"].items():
                values = value.get("values", [value.get("mean")]) if isinstance(value, dict) else [value]
                if all(isinstance(each, int | float) for each in values):
                    key = as_key(facts, metric)
                    scores[key] = score = scores.pop(key, None) or Score(facts, metric, {})  # the newest last
                    names = [*(seeds if isinstance(seeds, list) else [seeds]), *map(str, range(len(values)))]
                    score.values.update(zip(names, values))
    return sorted(scores.values(), key=lambda s: [as_text(s.facts[key]) for key in (*FACTS[1:4], "modality")])


def as_key(facts: dict[str, Any], metric: str = "") -> str:
    return json.dumps([facts, metric], sort_keys=True)


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


def siblings(star: str, runs: Iterable[str]) -> list[str]:
    """List the runs that a name with stars stands for."""
    return [name for name in runs if re.fullmatch(re.escape(star).replace(r"\*", r"\d+"), name)]


def average(scores: list[Score], runs: dict[str, str]) -> list[Score]:
    """Average over runs that differ in fold or seed alone. Notes on stderr name other settings that differ, and runs of
    a group that lack a result."""
    means: dict[str, Score] = {}
    groups: dict[tuple, dict[str, set[str]]] = {}  # star, task, data and modality → facts → runs
    for score in scores:
        facts = {key: value for key, value in score.facts.items() if key not in HASHES} | starred(score.facts)
        mean = means.setdefault(as_key(facts, score.metric), Score(facts, score.metric, {}))
        mean.values[score.facts["run"]] = summary(list(score.values.values()))["mean"]
        group = groups.setdefault(tuple(facts[key] for key in FACTS if key != "epoch"), {})
        group.setdefault(as_key(facts), set()).add(score.facts["run"])
    for (star, task, *_, modality), group in groups.items():
        names, every = set().union(*group.values()), siblings(star, runs)
        partial = [json.loads(key)[0] for key, some in group.items() if len(some) < len(names)]
        options = {key: {as_text(facts.get(key)) for facts in partial} for facts in partial for key in facts}
        if differing := [f"{key} ({', '.join(sorted(each))})" for key, each in options.items() if len(each) > 1]:
            note(f"{task}, {modality}: no average over all {star}; they differ in {', '.join(differing)}")
        if missing := [name + runs[name] for name in every if name not in names]:
            note(f"{task}, {modality}: {len(names)} of {len(every)} runs {star}; no result of {', '.join(missing)}")
    return [mean for mean in means.values() if len(mean.values) > 1]


def note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def paper_scores(scores: list[Score]) -> list[Score]:
    """Return the paper's figures for the tasks and protocols of `scores`."""
    shown = {tuple(score.facts[key] for key in ("task", "dataset", "protocol")) for score in scores}
    return [
        Score(dict(zip(FACTS, ("published (paper)", task, data.name, p.name, None, "all"))), metric, {None: figure})
        for data in DATASETS.values()
        for p in data.protocols
        for (task, metric), figure in zip(PAPER, p.published_scores or ())
        if (task, data.name, p.name) in shown
    ]


def make_table(scores: list[Score], runs: dict[str, str]) -> list[list[str]]:
    """Make the header and the lines of a task's table. `runs` maps each run to a note on it; settings that differ
    between their rows have a column."""
    rows: dict[str, tuple[dict[str, Any], dict[str, dict]]] = {}
    for score in scores:
        rows.setdefault(as_key(score.facts), (score.facts, {}))[1][score.metric] = summary(list(score.values.values()))
    measured = [facts for facts, _ in rows.values() if facts["run"] in runs]

    def differing(keys: Iterable[str]) -> list[str]:
        return [key for key in keys if len({as_text(facts.get(key)) for facts in measured}) > 1]

    keys = dict.fromkeys(key for facts in measured for key in facts)
    settings = differing(key for key in keys if key not in (*FACTS, *OWN))
    if len({as_text([facts.get(key) for key in (*FACTS, *settings)]) for facts in measured}) < len(measured):
        settings += differing(OWN)
    metrics = dict.fromkeys(score.metric for score in scores)
    digits = {m: 1 if any(abs(each[m]["mean"]) >= 1 for _, each in rows.values() if m in each) else 3 for m in metrics}
    with_seeds = any(len(score.values) > 1 for score in scores if score.facts["run"] in runs)
    titles = [f"{key} hash" if key in HASHES else key for key in settings]
    lines = [["run", "data", "epoch", "modality", *titles, *metrics, *["seeds"] * with_seeds]]
    for facts, values in rows.values():
        name, data = facts["run"], f"{facts['dataset']} {as_text(facts['protocol'])}"
        count, total = max(len(each["values"]) for each in values.values()), len(siblings(name, runs))
        label = f" ({count} {f'of {total} ' if count < total else ''}runs)" if "*" in name else runs.get(name, "")
        texts = [as_text(facts.get(key))[: 8 if key in HASHES else None] for key in settings]
        texts += [format_summary(values[m], digits[m]) if m in values else "-" for m in metrics]
        texts += [str(count) if name in runs else "-"] * with_seeds
        lines.append([name + label, data, as_text(facts["epoch"]), facts["modality"], *texts])
    return lines


def progress(folder: Path) -> str:
    """Return ` (21 of 24 epochs)` if a run's pre-training is unfinished, else an empty text."""
    path = folder / CONFIG
    with reading(path):
        epochs = int(read_json(path).get("epochs", 0)) if path.is_file() else 0
    names = [re.match(r"checkpoint_(\d+)(_step)?", path.name) for path in folder.glob("checkpoint_*.pth.tar")]
    done = [int(name[1]) + (not name[2]) for name in names if name]  # names and log count epochs from 0
    done += [line["epoch"] + 1 for line in read_lines(folder / "log.jsonl") if "epoch" in line]
    return f" ({max(done, default=0)} of {epochs} epochs)" if max(done, default=0) < epochs else ""


def write_csv(path: Path, scores: list[Score]) -> None:
    """Write a line per metric: facts, settings, mean, standard deviation, and the number of seeds or runs."""
    keys = dict.fromkeys([*FACTS, *(key for score in scores for key in score.facts)])
    with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*keys, "metric", "mean", "std", "number"])
        for facts, metric, values in scores:
            mean, std, numbers = summary(list(values.values())).values()
            lines.writerow([*(as_text(facts.get(key, "")) for key in keys), metric, mean, std, len(numbers)])


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
    folders = [find_run(name) for name in args.test_names]
    folders = folders or sorted({path.parent for name in (RESULTS, CONFIG) for path in RUNS.glob(f"*/{name}")})
    names = [folder.name for folder in folders]
    paths = {f.name if names.count(f.name) == 1 else str(f): f for f in folders}
    runs = {name: progress(folder) for name, folder in paths.items()}
    scores, shown, tables = read_scores(paths), [], {}
    if not scores:
        raise UserError(f"{', '.join(paths) or RUNS}: no results; evaluate a run first")
    for task in dict.fromkeys(score.facts["task"] for score in scores):
        own = [score for score in scores if score.facts["task"] == task]
        every = own + average(own, runs) + paper_scores(own)
        tables[task] = make_table(every, runs)
        notes = [BEST] * any(score.metric.startswith("best_") for score in own)
        print("\n".join([task, "", table(tables[task][0], tables[task][1:]), *notes, ""]))
        shown += every
    if idle := [name + label for name, label in runs.items() if all(score.facts["run"] != name for score in scores)]:
        note(f"no result of {', '.join(idle)}")
    if args.csv:
        write_csv(args.csv, shown)
    if args.latex:
        write_latex(args.latex, tables)


if __name__ == "__main__":
    run(main)

"""Curves of several runs: their logs and their probes' accuracy over epochs; early recognition."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from tools.evaluation.setup import stem_of
from tools.figures import style
from tools.figures.inputs import find_folders, newest_result, plot_path, read_columns
from tools.figures.style import Curve
from utils.errors import UserError
from utils.files import read_lines, reading

COLUMNS = 3
SPREAD = "std of the projections"  # one panel for all keys std/...
RATE, SPEED = "learning rate", "samples per second"
PROBE = "linear probe"  # the beginning of its panel's title


def read_run(folder: Path) -> dict[str, Curve]:
    """Read a run's curves from its log.jsonl and its newest linear probe, by title of the panel, in order."""
    with reading(folder / "log.jsonl"):
        lines = list({line["epoch"]: line for line in read_lines(folder / "log.jsonl")}.values())
        keys = list(dict.fromkeys(key for line in lines for key in line))
        panels = {key: [key] for key in keys if key.startswith("loss/")}
        panels |= {SPREAD: [key for key in keys if key.startswith("std/")], RATE: ["lr"], SPEED: ["samples_per_second"]}
        curves = {title: _curve(lines, used) for title, used in panels.items() if used and set(used) <= set(keys)}
    if result := newest_result(folder, "action_recognition", "all", "curve"):
        seeds = len(result["settings"]["seed"])  # those of the first learning rate come first
        epoch, *top1 = read_columns(folder / result["files"]["curve"], range(1 + seeds))
        curves[f"{PROBE}\n{result['dataset']} {result['protocol']}: top-1 (%)"] = Curve(epoch, np.array(top1))
    if not curves:
        raise UserError(f"{folder}: neither log.jsonl nor a linear probe; pre-train or evaluate the run first")
    return curves


def _curve(lines: list[dict], keys: list[str]) -> Curve:
    """Make a curve with a line per key, at the epochs that have all keys."""
    points = [(line["epoch"] + 1, *(line[key] for key in keys)) for line in lines if set(keys) <= set(line)]
    x, *y = np.array(points, float).T
    return Curve(x, np.array(y))


def draw_curves(runs: dict[str, dict[str, Curve]]) -> Figure:
    """Draw a panel for each kind of curve, with a line for each run."""
    titles = list(dict.fromkeys(title for curves in runs.values() for title in curves))
    titles.sort(key=lambda title: (title.startswith(PROBE), not title.startswith("loss/")))
    rows = math.ceil(len(titles) / COLUMNS)
    figure = style.new_figure(1.4 * rows + 0.2 * math.ceil(len(runs) / 4) + 0.1)
    grid = figure.subplots(rows, min(COLUMNS, len(titles)), squeeze=False)
    for axes in grid.flat[len(titles) :]:
        axes.axis("off")
    lines: dict[str, Line2D] = {}
    for axes, title in zip(grid.flat, titles):
        lines |= style.draw_lines(axes, {run: curves.get(title) for run, curves in runs.items()})
        axes.set(title=title, xlabel="epoch of the probe" if title.startswith(PROBE) else "epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if title in (SPREAD, SPEED):
            axes.set_ylim(bottom=0)
        if title == RATE:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False))  # matplotlib's own are formulas
            axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    figure.legend([lines[run] for run in runs], list(runs), loc="outside upper center", ncols=4)
    return figure


def plot_curves(runs: list[str], labels: list[str] | None, out: Path | None) -> None:
    """Draw the curves of runs."""
    folders = find_folders(runs, labels)
    first, *others = folders.values()
    figure = draw_curves({title: read_run(folder) for title, folder in folders.items()})
    style.publish(figure, plot_path(out, first, "curves", *(folder.resolve().name for folder in others)), first)


def read_scores(folder: Path, modality: str) -> tuple[Curve, str]:
    """Read the newest scores of `--observed`: top-1 of each seed over the observed part, both in %, and their data."""
    result = newest_result(folder, "early_recognition", modality)
    if not result:
        command = f"action_recognition.py --pretrained {folder} --observed 0.1 0.2 0.5 1"
        raise UserError(f"{folder}: no early recognition of modality {modality}; run python {command}")
    prefix, metrics = "top1_at_", result["metrics"]
    scores = {float(name.removeprefix(prefix)): metrics[name]["values"] for name in metrics if name.startswith(prefix)}
    observed, top1 = zip(*sorted(scores.items()))
    return Curve(np.array(observed), np.array(top1).T), f"{result['dataset']} {result['protocol']}"


def draw_early_recognition(runs: dict[str, Curve], title: str) -> Figure:
    """Draw a line for each run: the mean of its seeds, in a band from the lowest to the highest."""
    figure = style.new_figure(2.6, 4.5)
    axes = figure.subplots()
    lines = style.draw_lines(axes, runs)
    axes.set(title=title, xlabel="observed part of each clip (%)", ylabel="top-1 (%)")
    axes.set_ylim(bottom=0)
    axes.legend(list(lines.values()), list(lines))
    return figure


def plot_early_recognition(runs: list[str], modality: str, out: Path | None) -> None:
    """Draw the early recognition of runs."""
    folders = find_folders(runs, None)
    first, *others = folders.values()
    scores = {title: read_scores(folder, modality) for title, folder in folders.items()}
    data = " and ".join(dict.fromkeys(data for _, data in scores.values()))
    figure = draw_early_recognition(
        {title: curve for title, (curve, _) in scores.items()}, f"{data}, modality {modality}"
    )
    parts = stem_of("early_recognition", modality), *(folder.resolve().name for folder in others)
    style.publish(figure, plot_path(out, first, *parts), first)

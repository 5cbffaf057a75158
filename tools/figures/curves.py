"""Curves of several runs: their logs and their probes' accuracy over epochs; early recognition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from tools.evaluation.setup import stem_of
from tools.figures import style
from tools.figures.inputs import find_folders, newest_result, plot_path, read_columns
from utils.errors import UserError
from utils.files import read_lines, reading

COLUMNS = 3
LINES = ("-", "--", ":", "-.")
SPREAD = "std of the projections"  # one panel for all keys std/...
RATE, SPEED = "learning rate", "samples per second"
PROBE, EARLY = "linear probe", "early recognition"  # the first lines of their panels' titles
XLABELS = {PROBE: "epoch of the probe", EARLY: "observed part of each clip (%)"}


class Curve(NamedTuple):
    """The points of L lines: x (N,), and y (L, N)."""

    x: np.ndarray
    y: np.ndarray


def draw_lines(axes: Axes, curves: Mapping[str, Curve | None]) -> dict[str, Line2D]:
    """Draw the curve of each run that has one: the mean of its lines, in a band from the lowest to the highest. Return
    the lines of the legend, by run."""
    lines = {}
    for i, (run, curve) in enumerate(curves.items()):
        if curve:
            x, y = curve
            (lines[run],) = axes.plot(x, y.mean(0), LINES[i % len(LINES)], linewidth=1.3, clip_on=False)
            step = max(1, len(x) // 6)  # so that markers of equal curves do not cover each other
            lines[run].set(color=style.colour(i), marker=style.marker(i), markersize=3, markevery=(i % step, step))
            axes.fill_between(x, y.min(0), y.max(0), color=style.colour(i), alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3, linewidth=0.5)
    return lines


def read_run(folder: Path) -> dict[str, Curve]:
    """Read a run's curves from its log.jsonl and its newest linear probe, by title of the panel, in order."""
    with reading(folder / "log.jsonl"):
        lines = read_lines(folder / "log.jsonl")
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


def read_early_recognition(folder: Path, modality: str) -> dict[str, Curve]:
    """Read the newest scores of `--observed`, top-1 of each seed over the observed part, by title of the panel."""
    result = newest_result(folder, "early_recognition", modality)
    if not result:
        command = f"action_recognition.py --pretrained {folder} --observed 0.1 0.2 0.5 1"
        raise UserError(f"{folder}: no early recognition of modality {modality}; run python {command}")
    metrics, prefix = result["metrics"], "top1_at_"
    scores = {float(name[len(prefix) :]): metrics[name]["values"] for name in metrics if name.startswith(prefix)}
    observed, top1 = zip(*sorted(scores.items()))
    title = f"{EARLY}\n{result['dataset']} {result['protocol']}, modality {modality}: top-1 (%)"
    return {title: Curve(np.array(observed), np.array(top1).T)}


def draw(runs: dict[str, dict[str, Curve]]) -> Figure:
    """Draw a panel for each kind of curve, with a line for each run."""
    titles = list(dict.fromkeys(title for curves in runs.values() for title in curves))
    titles.sort(key=lambda title: (title.startswith(PROBE), not title.startswith("loss/")))
    rows, columns = math.ceil(len(titles) / COLUMNS), min(COLUMNS, len(titles))
    figure = style.new_figure(max(2.6, 1.4 * rows) + 0.2 * math.ceil(len(runs) / 4) + 0.1)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(titles) :]:
        axes.axis("off")
    lines: dict[str, Line2D] = {}
    for axes, title in zip(grid.flat, titles):
        lines |= draw_lines(axes, {run: curves.get(title) for run, curves in runs.items()})
        axes.set(title=title, xlabel=XLABELS.get(title.split("\n")[0], "epoch"))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if title.startswith((SPREAD, SPEED, EARLY)):
            axes.set_ylim(bottom=0)
        if title == RATE:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False))  # matplotlib's own are formulas
            axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    figure.legend([lines[run] for run in runs], list(runs), loc="outside upper center", ncols=4)
    return figure


def _plot(folders: dict[str, Path], read: Callable[[Path], dict[str, Curve]], stem: str, out: Path | None) -> None:
    first, *others = folders.values()
    figure = draw({title: read(folder) for title, folder in folders.items()})
    style.publish(figure, plot_path(out, first, stem, *(folder.resolve().name for folder in others)), first)


def plot_curves(runs: list[str], labels: list[str] | None, out: Path | None) -> None:
    """Draw the curves of runs."""
    _plot(find_folders(runs, labels), read_run, "curves", out)


def plot_early_recognition(runs: list[str], modality: str, out: Path | None) -> None:
    """Draw the early recognition of runs."""
    stem = stem_of("early_recognition", modality)
    _plot(find_folders(runs, None), partial(read_early_recognition, modality=modality), stem, out)

"""A val recording with its nearest neighbours on the train side, as stick figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from data_gen.packed.reader import PackedDataset
from feeder.clips import NUM_FRAMES, ClipDataset, evaluation_view
from tools.evaluation.knn import nearest
from tools.figures import people, style
from tools.figures.encoded import Encoded, class_name, find_name, names_for, plot_path
from tools.utils.distributed import single_process
from tools.utils.errors import UserError

FRAMES = 6  # of each recording


@dataclass(frozen=True)
class Neighbour:
    """A recording, by its index in the data set, and its cosine similarity to the query."""

    index: int
    similarity: float


def neighbours(
    encoder: Encoded, packed: PackedDataset, gallery: np.ndarray, query: int, k: int, modality: str
) -> list[Neighbour]:
    """Find the query's k nearest recordings in the gallery (indices), nearest first. Raises UserError."""
    if k > len(gallery):
        raise UserError(f"-k {k}: the gallery has only {len(gallery)} recordings")
    asked = encoder.features(packed, np.array([query]), modality)
    features = encoder.features(packed, gallery, modality)
    found = nearest(asked, features, k)[0]
    similarity = F.cosine_similarity(asked, features[found])
    return [Neighbour(int(gallery[i]), float(s)) for i, s in zip(found.tolist(), similarity)]


def draw(packed: PackedDataset, query: int, found: list[Neighbour], names: Sequence[str]) -> Figure:
    """Draw the query above its neighbours, each as a row of frames with a solid (right) or dashed (wrong) border."""
    rows = [query, *(n.index for n in found)]
    clips = evaluation_view(ClipDataset.of_dataset(packed, np.array(rows), torch.device("cpu")).clips(slice(None)))
    sticks = people.StickFigure(packed.skeleton)
    times = np.linspace(0, NUM_FRAMES - 1, FRAMES + 2).round().astype(int)[1:-1]
    figure = style.new_figure(1.15 * len(rows))
    bands = figure.subfigures(len(rows), 1, squeeze=False, hspace=0.06)[:, 0]
    for place, (band, index, clip) in enumerate(zip(bands, rows, clips.numpy())):
        right = bool(packed.label[index] == packed.label[query])
        paint = style.GREY if place == 0 else style.COLOURS[0] if right else style.COLOURS[1]
        band.patch.set(edgecolor=paint, linewidth=2, linestyle="-" if right else "--")
        head = "query" if place == 0 else f"{place} {'✓' if right else '✗'} cosine {found[place - 1].similarity:.3f}"
        title = f"{head}: {class_name(names, int(packed.label[index]))}"
        band.suptitle(title, x=0.02, ha="left", weight="bold", color=paint, fontsize=8.5)
        band.text(0.98, 0.96, str(packed.names[index]), ha="right", va="top", color=style.GREY, fontsize=6)
        who = people.present(clip)
        seen = people.project(clip[:, who])
        for axes, t in zip(band.subplots(1, FRAMES), times):
            sticks.draw_frame(axes, clip[t], who)
            people.set_view(axes, seen)
    return figure


def main(args: argparse.Namespace) -> None:
    """Draw a query and its neighbours. Raises UserError."""
    encoder = Encoded.open(args.checkpoint, single_process(args.device, "tools.figures"))
    packed, protocol = encoder.data(args)
    query = find_name(packed, args.query, "--query")
    gallery, queries = packed.split(protocol.name, "train"), packed.split(protocol.name, "val")
    if query not in queries:
        raise UserError(
            f"--query {args.query} is on the train side of {protocol.long_name}, which is searched: choose one "
            f"of the val side, such as {packed.names[queries[0]]}"
        )
    stem = encoder.plot_name(args.query, args, packed, protocol)
    out = plot_path(args.out, encoder.folder, f"retrieval_{stem}.png")
    names = names_for(packed, args.class_names)
    found = neighbours(encoder, packed, gallery, query, args.k, args.modality)
    figure = draw(packed, query, found, names)
    style.publish(figure, out, encoder.folder, f"retrieval/{stem}", encoder.epoch)
    right = sum(packed.label[n.index] == packed.label[query] for n in found)
    print(f"{args.query}: {right} of its {len(found)} nearest are of its class, {out}")

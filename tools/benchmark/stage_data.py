"""Stages before the model: conversion and feeding."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from data_gen.raw.workers import num_cores
from feeder.layout import NTU_LAYOUT
from torch import Tensor

from data_gen.datasets import DATASETS, ROOT
from data_gen.raw.normalise import normalise
from data_gen.raw.recordings import Recording, find_recordings
from data_gen.raw.skeleton_file import parse_skeleton
from feeder.augment import training_view
from feeder.clips import NUM_FRAMES, ClipBatch, ClipDataset
from tools.benchmark import baselines
from tools.benchmark.measure import copy_limit, measure, split_limit
from tools.benchmark.rows import CPU, Setup, StageRow, check_same
from tools.benchmark.simulate import simulated_dataset, skeleton_texts, write_recordings

VIEWS = 4  # of a clip in a step: for joint, bone, motion, and all three fused


def convert(setup: Setup, folder: Path) -> Iterator[StageRow]:
    """Read and normalise recordings from files and from a zip archive, then run the whole program."""
    sizes, dataset = setup.sizes, DATASETS["ntu60"]
    texts = skeleton_texts(sizes.recordings, sizes.num_frame)
    size = sum(map(len, texts)) / len(texts)
    limit = split_limit(texts, sizes.seconds / 5)
    write_recordings(folder / "raw", folder / "raw.zip", texts, sizes.files)
    for what, path in (("files", folder / "raw"), ("a zip archive", folder / "raw.zip")):
        recordings = find_recordings([path])[0][: len(texts)]

        def normalised(recordings: list[Recording] = recordings) -> list[np.ndarray]:
            return [normalise(parse_skeleton(recording.read())) for recording in recordings]

        measured = measure(normalised, CPU, sizes.seconds, len(texts))
        row = StageRow("convert", f"from {what}, one core", "recording", measured, limit, size)
        if what == "files":
            row.note = f"{size / 1e3:.0f} kB a recording on average; every fifth shows two people"
            if setup.baseline:
                _compare_conversion(row, texts, len(dataset.protocols), setup)
        yield row
    cores = num_cores()

    def program() -> object:
        command = [sys.executable, str(ROOT / "data_gen/ntu_gendata.py"), "--dataset", dataset.name]
        places = ["--raw", str(folder / "raw"), "--out", str(folder / "out"), "--workers", str(cores)]
        return subprocess.run([*command, *places], check=True, capture_output=True)

    title = f"the whole program, {cores} core{'s' * (cores > 1)}"
    note = f"{sizes.files} files, its start and that of the worker processes included"
    measured = measure(program, CPU, sizes.seconds, sizes.files)
    yield StageRow("convert", title, "recording", measured, limit, size / cores, note=note)


def _compare_conversion(row: StageRow, texts: list[bytes], protocols: int, setup: Setup) -> None:
    some = texts[:5]
    for text in some[-2:]:
        bodies = parse_skeleton(text)
        check_same("convert", bodies, baselines.parse(text.decode()), 0)
        check_same("convert", normalise(bodies), baselines.convert(text, 1), 1e-6)
    row.compare(lambda: [baselines.convert(text, protocols) for text in some], len(some), setup)


def feed(setup: Setup, folder: Path) -> Iterator[StageRow]:
    """Make four augmented views of a batch."""
    sizes, view, steps = setup.sizes, training_view(), itertools.count()
    dataset = simulated_dataset(folder, sizes.clips, sizes.clips, setup.device)

    def views() -> Tensor:
        return view(_clips(dataset, next(steps), sizes.feed_batch))

    for _ in range(sizes.clips // sizes.feed_batch):  # reads each page of the mapped file, like a first epoch
        views()
    measured = setup.measure(views, sizes.feed_batch)
    # The least traffic: each value of a view is written once and one value is read for it.
    needs = 2 * 4 * VIEWS * NUM_FRAMES * NTU_LAYOUT.size
    limit = copy_limit(setup.device, sizes.copy_bytes, sizes.seconds / 5)
    row = StageRow("feed", f"{VIEWS} views, batch {sizes.feed_batch}", "sample", measured, limit, needs, samples=1)
    if setup.baseline:
        clips = _clips(dataset, 0, sizes.feed_batch)
        check_same("feed", view(clips), baselines.training_view(_clips(dataset, 0, sizes.feed_batch)), 1e-5)
        row.compare(lambda: baselines.training_view(clips), sizes.feed_batch, setup)
    yield row


def _clips(dataset: ClipDataset, step: int, size: int) -> ClipBatch:
    """Return the clips of a step's views; steps take the recordings in turn."""
    start = step % (len(dataset) // size) * size
    return dataset.views(torch.arange(start, start + size, device=dataset.device), VIEWS, seed=0, epoch=step)

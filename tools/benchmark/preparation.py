"""Stages before the model: conversion and feeding."""

from __future__ import annotations

import itertools

import numpy as np
from torch import Tensor

from data_gen import ntu_gendata
from data_gen.datasets import DATASETS
from data_gen.raw.normalise import normalise
from data_gen.raw.recordings import Recording, find_recordings
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.raw.workers import num_cores
from feeder.augment import training_view
from feeder.clips import NUM_FRAMES, ClipBatch, ClipDataset
from feeder.layout import NTU_LAYOUT
from feeder.sampling import StepRandom
from tools.benchmark.figures import CPU, Row, Setup, check_same, folder
from tools.benchmark.measure import STREAMS, PeakMemory, copy_limit, largest_difference, measure, split_limit
from tools.benchmark.simulate import clip_source, plain_clip_source, skeleton_texts, write_recordings


def convert(setup: Setup) -> list[Row]:
    """Recordings to normalised people, for all protocols: from files and from an archive, then as the program does."""
    sizes, dataset = setup.sizes, DATASETS["ntu60"]
    texts = skeleton_texts(sizes.recordings, sizes.num_frame)
    with folder() as place:
        write_recordings(place / "raw", place / "raw.zip", texts, sizes.files)
        split, rows = split_limit(texts, sizes.runs), []
        needs: float = sum(map(len, texts))
        for what, path in (("files", place / "raw"), ("a zip archive", place / "raw.zip")):
            recordings = find_recordings([path])[0][: len(texts)]
            memory = PeakMemory(CPU)

            def normalised(recordings: list[Recording] = recordings) -> list[np.ndarray]:
                return [normalise(parse_skeleton(recording.read())) for recording in recordings]

            timing = measure(normalised, CPU, sizes.runs)
            title = f"from {what}, one core"
            rows.append(Row("convert", title, "recording", len(texts), timing, split, needs, memory.figures()))
        rows[0].note = f"{needs / len(texts) / 1e3:.0f} kB a recording on average; every fifth shows two people"
        if setup.baseline:
            _compare_conversion(rows[0], texts, len(dataset.protocols), setup)
        cores = num_cores()
        memory = PeakMemory(CPU)
        timing = measure(
            lambda: ntu_gendata.convert(dataset, [place / "raw"], place / "out", workers=cores), CPU, sizes.slow_runs
        )
        needs = needs * sizes.files / len(texts) / cores
        title = f"the whole program, {cores} core{'s' * (cores > 1)}"
        note = f"{sizes.files} files, the start of the worker processes included"
        rows.append(Row("convert", title, "recording", sizes.files, timing, split, needs, memory.figures(), note))
    return rows


def _compare_conversion(row: Row, texts: list[bytes], protocols: int, setup: Setup) -> None:
    plain, some = setup.baseline, texts[:5]
    for text in some[-2:]:
        bodies = parse_skeleton(text)
        check_same("convert", float(not np.array_equal(plain.parse(text.decode()), bodies)), 0)
        check_same("convert", np.abs(plain.convert(text, 1) - normalise(bodies)).max(), 1e-6)
    row.compare(lambda: [plain.convert(text, protocols) for text in some], len(some), setup)


def feed(setup: Setup) -> list[Row]:
    """Four augmented views of a batch."""
    sizes, view = setup.sizes, training_view()
    steps = itertools.count()
    with folder() as place:
        source = clip_source(place / "packed", sizes.clips, sizes.clips, setup.device)

        def views() -> list[Tensor]:
            clips = _batch(source, next(steps), sizes.feed_batch)
            return [view(clips) for _ in range(STREAMS)]

        def warm_up() -> None:
            for _ in range(sizes.clips // sizes.feed_batch):  # every page of the mapped file, as after a first epoch
                views()

        memory = PeakMemory(setup.device)
        timing = measure(views, setup.device, sizes.runs, warm_up)
        used = memory.figures()
        # The least that must move: every value of a view is written once, from as many that are read.
        needs = 2 * 4 * STREAMS * sizes.feed_batch * NUM_FRAMES * NTU_LAYOUT.size
        limit = copy_limit(setup.device, sizes.copy_bytes, sizes.runs)
        row = Row("feed", f"4 views, batch {sizes.feed_batch}", "sample", sizes.feed_batch, timing, limit, needs, used)
        if setup.baseline:
            plain_source = plain_clip_source(source, place, sizes.clips, sizes.clips)
            _compare_feeding(row, source, plain_source, setup)
    return [row]


def _batch(source: ClipDataset, step: int, size: int) -> ClipBatch:
    """A step's clips, in turn, with its random numbers."""
    start = step % (len(source) // size) * size
    return source.clips(slice(start, start + size), StepRandom.for_step(0, 0, step, size, slice(None)))


def _compare_feeding(row: Row, source: ClipDataset, plain_source: ClipDataset, setup: Setup) -> None:
    plain, size = setup.baseline.training_view, setup.sizes.feed_batch
    product = training_view()(_batch(source, 0, size)).cpu()
    check_same("feed", largest_difference(product, plain(_batch(plain_source, 0, size))), 1e-5)

    def views() -> None:
        clips = _batch(plain_source, 0, size)
        for _ in range(STREAMS):
            plain(clips)

    row.compare(views, size, setup)

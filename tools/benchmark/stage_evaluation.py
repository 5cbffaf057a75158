"""Stages of evaluation: features, the linear probe and retrieval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from data_gen.recipes import LINEAR_PROBE
from feeder.modality_names import MODALITIES
from models.encoder import Backbone
from models.flops import stream_flops
from torch import Tensor

from feeder.clips import NUM_FRAMES, evaluation_view
from tools.benchmark import baselines
from tools.benchmark.rows import Setup, StageRow, check_same
from tools.benchmark.simulate import simulated_dataset
from tools.evaluation.features import BATCH_SIZE, extract_features
from tools.evaluation.knn import CHUNK, nearest
from tools.evaluation.knn import retrieve as nearest_and_precision
from tools.evaluation.probe import LinearProbe, train_probes


def features(setup: Setup, folder: Path) -> Iterator[StageRow]:
    """Encode the clips of both sides, all modalities fused."""
    sizes, every = setup.sizes, setup.sizes.train + setup.sizes.val
    count = min(sizes.features_measured, every)
    backbone = Backbone(sizes.hidden_size).to(setup.device).eval()
    dataset = simulated_dataset(folder, min(sizes.clips, count), count, setup.device)

    def extract() -> Tensor:
        return extract_features(backbone, dataset, [MODALITIES], setup.device)[0]

    measured = setup.measure(extract, count / every)
    limit = setup.product_limit((min(BATCH_SIZE, count) * NUM_FRAMES, sizes.hidden_size, sizes.hidden_size))
    title, needs = f"{every:,} clips, hidden {sizes.hidden_size}, float32", every * stream_flops(sizes.hidden_size)
    row = StageRow("features", title, "data set", measured, limit, needs, every)
    row.note = f"extrapolated from {count:,} clips" if count < every else ""
    if setup.baseline:
        some = torch.arange(min(sizes.plain_clips, count), device=dataset.device)

        @torch.no_grad()
        def plain() -> Tensor:
            return baselines.features(backbone, evaluation_view(dataset.clips(some)).to(setup.device))

        check_same("features", extract()[: len(some)], plain(), 1e-4)
        row.compare(plain, len(some) / every, setup, f"extrapolated from batches of {len(some)} clips")
    yield row


def _simulated_features(count: int, setup: Setup, seed: int) -> tuple[Tensor, Tensor]:
    """Make features (N, D) scattered around their class's centre, and labels int64 (N,)."""
    sizes, rng = setup.sizes, torch.Generator().manual_seed(seed)
    centres = torch.randn(sizes.classes, sizes.feature_size, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(sizes.classes, (count,), generator=rng)
    scattered = torch.randn(count, sizes.feature_size, generator=rng).add_(centres[labels])
    return scattered.to(setup.device), labels.to(setup.device)


def probe(setup: Setup, folder: Path) -> Iterator[StageRow]:
    """Train the linear probe on cached features: one run, and three seeds of three learning rates."""
    sizes = setup.sizes
    train, val = (_simulated_features(count, setup, seed) for seed, count in enumerate((sizes.train, sizes.val)))
    recipe = replace(LINEAR_PROBE, epochs=sizes.probe_measured)
    limit = setup.product_limit((recipe.batch_size, sizes.feature_size, sizes.classes))
    validations = sizes.probe_epochs // recipe.validate_every
    # Forward, and backward to the weights alone; a validation is forward.
    needs = 2 * sizes.feature_size * sizes.classes * (2 * sizes.train * sizes.probe_epochs + sizes.val * validations)
    part = sizes.probe_measured / sizes.probe_epochs
    for what, lrs, seeds in (("1 run", (0.03,), [0]), ("3 seeds × 3 learning rates", (0.01, 0.03, 0.1), [0, 1, 2])):

        def run(lrs: tuple[float, ...] = lrs, seeds: list[int] = seeds) -> None:
            linear = LinearProbe(*train, sizes.classes, recipe, seeds, lrs)
            train_probes({"all": linear}, {"all": val[0]}, val[1], {})

        title = f"{sizes.probe_epochs} epochs, {sizes.train:,} × {sizes.feature_size:,}, {what}"
        row = StageRow("probe", title, "probe", setup.measure(run, part), limit, needs * len(lrs) * len(seeds))
        row.note = f"extrapolated from {sizes.probe_measured} epochs" if part < 1 else ""
        if setup.baseline and len(seeds) == 1:
            _compare_probe(row, setup, folder)
        yield row


def _compare_probe(row: StageRow, setup: Setup, folder: Path) -> None:
    """Time a probe with the encoder in its loop, extrapolated from an epoch of a few clips, without validations."""
    sizes, clips = setup.sizes, setup.sizes.plain_clips
    recipe = replace(LINEAR_PROBE, epochs=1, batch_size=clips // 2)
    backbone = Backbone(sizes.feature_size // 2).to(setup.device).eval()
    dataset = simulated_dataset(folder, clips, clips, setup.device)

    def plain() -> torch.nn.Linear:
        return baselines.probe_epoch(backbone, dataset, sizes.classes, recipe)

    (cached,) = extract_features(backbone, dataset, [MODALITIES], setup.device)
    linear = LinearProbe(cached, dataset.label.to(setup.device), sizes.classes, recipe, [0])
    list(linear.train())
    check_same("probe", linear.weight[0], plain().weight, 1e-4)
    part = clips / sizes.train / sizes.probe_epochs
    row.compare(plain, part, setup, f"extrapolated from an epoch of {clips} clips")


def retrieve(setup: Setup, folder: Path) -> Iterator[StageRow]:
    """Find the nearest of the gallery to each query, without and with each query's average precision."""
    sizes, count = setup.sizes, min(setup.sizes.retrieve_measured, setup.sizes.val)
    gallery, labels = _simulated_features(sizes.train, setup, 0)
    queries, classes = (part[:count] for part in _simulated_features(sizes.val, setup, 1))
    limit = setup.product_limit((min(CHUNK, count), sizes.feature_size, sizes.train))
    needs = 2 * sizes.val * sizes.train * sizes.feature_size
    for what, call in (
        ("nearest", lambda: nearest(queries, gallery, 1)),
        ("nearest and mAP", lambda: nearest_and_precision(queries, classes, gallery, labels, 1)),
    ):
        measured = setup.measure(call, count / sizes.val)
        title = f"{sizes.val:,} queries, gallery {sizes.train:,} × {sizes.feature_size:,}, {what}"
        row = StageRow("retrieve", title, "retrieval", measured, limit, needs)
        row.more = {"queries_per_second": sizes.val / measured.median}
        row.note = f"extrapolated from {count:,} queries" if count < sizes.val else ""
        if setup.baseline and what == "nearest":
            _compare_retrieval(row, queries[: sizes.plain_queries], gallery, setup)
        yield row


def _compare_retrieval(row: StageRow, queries: Tensor, gallery: Tensor, setup: Setup) -> None:
    some, every = queries.cpu().numpy(), gallery.cpu().numpy()
    check_same("retrieve", nearest(queries, gallery, 1)[:, 0], baselines.nearest(some, every), 0)
    note = f"extrapolated from {len(some)} queries"
    row.compare(lambda: baselines.nearest(some, every), len(some) / setup.sizes.val, setup, note)

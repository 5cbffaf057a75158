"""Stages of evaluation: the linear probe and retrieval, on features."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from data_gen.recipes import LINEAR_PROBE, ClassifierRecipe
from feeder.modalities import MODALITIES
from models.encoder import Backbone
from tools.benchmark.figures import Row, Setup, check_same, folder
from tools.benchmark.measure import PeakMemory, measure, product_limit
from tools.benchmark.simulate import clip_source
from tools.evaluation.features import extract_features
from tools.evaluation.knn import CHUNK, nearest
from tools.evaluation.probe import LinearProbe, train_probes
from tools.evaluation.scores import Validation


def _features(count: int, setup: Setup, seed: int) -> tuple[Tensor, Tensor]:
    """Features (N, D) that lie about their class's centre, and labels (N,)."""
    sizes, rng = setup.sizes, torch.Generator().manual_seed(seed)
    centres = torch.randn(sizes.classes, sizes.feature_size, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(sizes.classes, (count,), generator=rng)
    features = torch.randn(count, sizes.feature_size, generator=rng).add_(centres[labels])
    return features.to(setup.device), labels.to(setup.device)


def _probe(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    classes: int,
    recipe: ClassifierRecipe,
    seeds: list[int],
    lrs: tuple[float, ...] = (),
) -> list[Validation]:
    probe = LinearProbe(*train, classes, recipe, seeds, lrs)
    return train_probes({"all": probe}, {"all": val[0]}, val[1], {})["all"]


def probe(setup: Setup) -> list[Row]:
    """The linear probe on cached features: one run, three learning rates of it, and three seeds."""
    sizes = setup.sizes
    train, val = (_features(count, setup, seed) for seed, count in enumerate((sizes.train, sizes.val)))
    recipe = replace(LINEAR_PROBE, epochs=sizes.probe_measured)
    one, three = (recipe.lr,), (0.03, 0.1, 0.3)
    factor = sizes.probe_epochs / sizes.probe_measured
    shape = (recipe.batch_size, sizes.feature_size, sizes.classes)
    limit = product_limit(setup.device, shape, torch.float32, sizes.runs)
    validations = sizes.probe_epochs // recipe.validate_every
    # Forward, and backward to the weights alone; a validation is forward.
    needs = 2 * sizes.feature_size * sizes.classes * (2 * sizes.train * sizes.probe_epochs + sizes.val * validations)
    rows = []
    for what, chosen, seeds in (("1 run", one, [0]), ("3 rates", three, [0]), ("3 seeds", one, [0, 1, 2])):
        memory = PeakMemory(setup.device)

        def run(lrs: tuple[float, ...] = chosen, seeds: list[int] = seeds) -> None:
            _probe(train, val, sizes.classes, recipe, seeds, lrs)

        timing = measure(run, setup.device, sizes.slow_runs).times(factor)
        title = f"{sizes.probe_epochs} epochs of {sizes.train:,} × {sizes.feature_size:,}, {what}"
        runs = len(chosen) * len(seeds)
        row = Row("probe", title, "probe", 1, timing, limit, runs * needs, memory.figures())
        row.more = {"extrapolated": factor > 1}
        row.note = f"extrapolated from {sizes.probe_measured} epochs" if factor > 1 else ""
        rows.append(row)
    if setup.baseline:
        _compare_probe(rows[0], validations, setup)
    return rows


def _compare_probe(row: Row, validations: int, setup: Setup) -> None:
    """Against the encoder in the loop: a few clips stand for the whole data set."""
    sizes, recipe = setup.sizes, replace(LINEAR_PROBE, epochs=1, batch_size=setup.sizes.plain_clips)
    torch.manual_seed(0)
    backbone = Backbone(sizes.feature_size // 2).to(setup.device).eval()
    with folder() as place:
        source = clip_source(place, sizes.plain_clips, sizes.plain_clips, setup.device)
        plain = setup.baseline.PlainProbe(backbone, sizes.classes, recipe, 0)
        found = plain.run(source, source)
        (feature,) = extract_features(backbone, source, [MODALITIES], setup.device)
        cached = (feature, source.label.to(setup.device))
        expected = _probe(cached, cached, sizes.classes, recipe, [0])[0]
        difference = max(abs(found[0][1] - expected.top1[0]), abs(found[0][2] - expected.top5[0]))
        check_same("probe", difference, 100 / len(source) + 1e-9)  # one clip: a tie that rounding decides
        clips = sizes.train * sizes.probe_epochs + sizes.val * validations
        note = f"extrapolated from batches of {sizes.plain_clips} clips"
        row.compare(lambda: plain.train_epoch(source), sizes.plain_clips / clips, setup, note)


def retrieve(setup: Setup) -> list[Row]:
    """The nearest of the gallery to each query."""
    sizes, count = setup.sizes, min(setup.sizes.retrieve_measured, setup.sizes.val)
    (gallery, _), (queries, _) = (_features(count, setup, s) for s, count in enumerate((sizes.train, sizes.val)))
    few, some = queries[:CHUNK], queries[:count]
    memory = PeakMemory(setup.device)
    timing = measure(
        lambda: nearest(some, gallery, 1), setup.device, sizes.slow_runs, lambda: nearest(few, gallery, 1)
    ).times(sizes.val / count)
    used = memory.figures()
    limit = product_limit(setup.device, (len(few), sizes.feature_size, sizes.train), torch.float32, sizes.slow_runs)
    needs = 2 * sizes.val * sizes.train * sizes.feature_size
    title = f"{sizes.val:,} queries, gallery of {sizes.train:,} × {sizes.feature_size:,}"
    row = Row("retrieve", title, "retrieval", 1, timing, limit, needs, used)
    row.more = {"queries_per_second": sizes.val / timing.median, "extrapolated": count < sizes.val}
    row.note = f"extrapolated from {count:,} queries" if count < sizes.val else ""
    if setup.baseline:
        _compare_retrieval(row, queries[: sizes.plain_queries], gallery, setup)
    return [row]


def _compare_retrieval(row: Row, queries: Tensor, gallery: Tensor, setup: Setup) -> None:
    expected = nearest(queries, gallery, 1)[:, 0].cpu()
    some, whole = queries.cpu().numpy(), gallery.cpu().numpy()
    found = torch.from_numpy(setup.baseline.nearest(some, whole))
    check_same("retrieve", (found != expected).sum().item(), 0)
    note = f"extrapolated from {len(some)} queries"
    row.compare(lambda: setup.baseline.nearest(some, whole), len(some) / setup.sizes.val, setup, note)

"""Stages of pre-training: the objective, a step, an epoch."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import pretrain
from feeder.augment import training_view
from feeder.clips import ClipDataset
from feeder.sampling import StepRandom
from models.flops import training_flops
from models.objective import umurl_loss
from models.umurl import Projections, name_projections
from tools.benchmark.figures import Row, Setup, check_same, folder
from tools.benchmark.measure import (
    STREAMS,
    Limit,
    PeakMemory,
    largest_difference,
    largest_product,
    measure,
    product_limit,
)
from tools.benchmark.simulate import clip_source, plain_clip_source
from tools.training.signals import StopSignal
from tools.training.trainer import Trainer
from tools.utils.distributed import Processes

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "off": torch.float32}


def objective(setup: Setup) -> list[Row]:
    """The loss of six projections and its gradients."""
    sizes, (rows, dims) = setup.sizes, setup.sizes.objective
    torch.manual_seed(0)
    z = torch.randn(6, rows, dims, device=setup.device, requires_grad=True)

    def gradient(loss: Callable[[Projections], Tensor]) -> Tensor:
        return torch.autograd.grad(loss(name_projections(z.unbind())), z)[0]

    def product(projections: Projections) -> Tensor:
        return umurl_loss(projections).total

    memory = PeakMemory(setup.device)
    timing = measure(lambda: gradient(product), setup.device, sizes.runs)
    used = memory.figures()
    # The smaller of the two matrices of products, and its two products with z in the backward pass.
    shape = (min(rows, dims), max(rows, dims), min(rows, dims))
    limit = product_limit(setup.device, shape, torch.float32, sizes.runs)
    needs = 6 * 3 * limit.amount
    title = f"batch {rows}, {dims} values, forward and backward"
    row = Row("objective", title, "stream", 6, timing, limit, needs, used)
    if setup.baseline:
        plain = setup.baseline.loss
        with torch.no_grad():
            projections = name_projections(z.unbind())
            check_same("objective", largest_difference(product(projections), plain(projections)), 1e-5)
        a, b = gradient(product), gradient(plain)
        check_same("objective's gradient", ((a - b).norm() / b.norm()).item(), 1e-5)
        row.compare(lambda: gradient(plain), 6, setup)
    return [row]


class _ReadyViews:
    """Stands for `Trainer.view` where feeding is not to be measured."""

    def __init__(self, views: tuple[Tensor, ...]):
        self.next = itertools.cycle(views).__next__

    def __call__(self, clips: object) -> Tensor:
        return self.next()


def _trainer(setup: Setup, source: ClipDataset) -> Trainer:
    flags = ["--checkpoint-path", "ntu60_xsub", "--hidden-size", setup.sizes.hidden_size]
    flags += ["--batch-size", setup.sizes.batch_size]
    flags += ["--amp", setup.amp] if setup.amp else []
    flags += ["--compile"] if setup.compile else []
    args = pretrain.parse_args([str(flag) for flag in flags])
    pretrain.complete_args(args, setup.device, 1)
    trainer = Trainer(args, Processes(0, 1, setup.device), source)
    trainer.prepare()
    trainer.parallel.train()
    return trainer


def _model_limit(setup: Setup, amp: str) -> Limit:
    sizes = setup.sizes
    return product_limit(
        setup.device, largest_product(sizes.hidden_size, sizes.batch_size), DTYPES[amp], setup.sizes.runs
    )


def _title(setup: Setup, amp: str) -> str:
    compiled = ", compiled" * setup.compile
    precision = {"off": "float32"}.get(amp, amp)
    return f"hidden {setup.sizes.hidden_size}, batch {setup.sizes.batch_size}, {precision}{compiled}"


def step(setup: Setup) -> list[Row]:
    """One training step on views that are ready: encoder, objective, gradients, optimiser."""
    sizes = setup.sizes
    with folder() as place:
        source = clip_source(place, sizes.batch_size, sizes.batch_size, setup.device)
        rows = torch.arange(sizes.batch_size)
        order, lone = source.lone_first(rows)
        draw = StepRandom.for_step(0, 0, 0, sizes.batch_size, order)
        views = tuple(training_view()(source.clips(rows[order], draw)) for _ in range(STREAMS))
        trainer = _trainer(setup, source)
        amp = trainer.args.amp
        start = copy.deepcopy(trainer.model)
        trainer.view = _ReadyViews(views)
        memory = PeakMemory(setup.device)
        timing = measure(lambda: trainer.train_step(rows), setup.device, sizes.runs)
        used = memory.figures()
    needs = sizes.batch_size * training_flops(sizes.hidden_size)
    row = Row("step", _title(setup, amp), "step", 1, timing, _model_limit(setup, amp), needs, used)
    computed = _computed_flops(start, views, lone)
    row.more = {
        "samples_per_second": sizes.batch_size / timing.median,
        "computed_flop": computed,
        "computed_share_of_limit": computed / row.limit.rate / timing.median,
    }
    share = f"{100 * row.more['computed_share_of_limit']:.0f} % of the limit"
    row.note = f"{needs / 1e12:.3g} TFLOP by the model's formula; {computed / 1e12:.3g} computed, {share}; "
    row.note += f"{lone} of {sizes.batch_size} clips show one person"
    if setup.baseline:
        _compare_step(row, trainer, start, (views, lone), setup)
    return [row]


def _plain_trainer(trainer: Trainer, model: nn.Module, setup: Setup) -> Any:
    dtype = None if trainer.args.amp == "off" else DTYPES[trainer.args.amp]
    return setup.baseline.PlainTrainer(model, trainer.args.lr, trainer.args.wd, dtype)


def _compare_step(
    row: Row, trainer: Trainer, model: nn.Module, batch: tuple[tuple[Tensor, ...], int], setup: Setup
) -> None:
    views, lone = batch
    plain = _plain_trainer(trainer, model, setup)
    with torch.no_grad():
        first = max(0, lone - 4)
        some = tuple(view[first : lone + 4] for view in views)  # float32: reduced precisions differ by their rounding
        product = umurl_loss(model(some, lone - first)).total
        check_same("step", largest_difference(product, setup.baseline.loss(setup.baseline.forward(model, some))), 1e-4)
    row.compare(lambda: plain.step(views), 1, setup)


def _computed_flops(model: torch.nn.Module, views: tuple[Tensor, ...], lone: int) -> int:
    """What the product computes for a step, as PyTorch counts it."""
    model = copy.deepcopy(model)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        sum(p.sum() for p in model(views, lone).values()).backward()
    return counter.get_total_flops()


def epoch(setup: Setup) -> list[Row]:
    """An epoch of pre-training, feeding included."""
    sizes = setup.sizes
    clips = sizes.epoch_steps * sizes.batch_size if sizes.epoch_steps else sizes.train
    with folder() as place:
        source = clip_source(place / "packed", min(sizes.clips, clips), clips, setup.device)
        trainer = _trainer(setup, source)
        start, amp = copy.deepcopy(trainer.model), trainer.args.amp
        memory = PeakMemory(setup.device)
        timing = measure(lambda: trainer.train_epoch(StopSignal()), setup.device, sizes.slow_runs).times(
            sizes.train / clips
        )
        used = memory.figures()
        needs = sizes.train * training_flops(sizes.hidden_size)
        title = f"{sizes.train:,} samples, {_title(setup, amp)}"
        row = Row("epoch", title, "epoch", 1, timing, _model_limit(setup, amp), needs, used)
        row.more = {"samples_per_second": sizes.train / timing.median, "extrapolated": clips < sizes.train}
        if clips < sizes.train:
            row.note = f"extrapolated from {sizes.epoch_steps} steps, {clips} samples"
        if setup.baseline:
            plain_source = plain_clip_source(source, place, min(sizes.clips, clips), clips)
            _compare_epoch(row, trainer, start, plain_source, setup)
    return [row]


def _compare_epoch(row: Row, trainer: Trainer, model: nn.Module, source: ClipDataset, setup: Setup) -> None:
    """One plain step, feeding included, stands for an epoch of them; `feed` and `step` check their results."""
    plain, size = _plain_trainer(trainer, model, setup), setup.sizes.batch_size

    def plain_step() -> None:
        clips = source.clips(slice(0, size), StepRandom.for_step(0, 0, 0, size, slice(None)))
        views = [setup.baseline.training_view(clips).to(setup.device) for _ in range(STREAMS)]
        plain.step(tuple(views))

    row.compare(plain_step, size / setup.sizes.train, setup, f"extrapolated from single steps, {size} samples")

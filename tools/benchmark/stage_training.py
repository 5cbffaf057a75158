"""Stages of pre-training: the objective, a step, an epoch."""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from feeder.modality_names import MODALITIES
from models.flops import training_flops
from models.objective import Weights, umurl_loss
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from data_gen.datasets import DATASETS
from feeder.clips import NUM_FRAMES
from models import umurl
from models.umurl import Projections
from tools.benchmark import baselines
from tools.benchmark.measure import Limit
from tools.benchmark.rows import Setup, StageRow, check_same
from tools.benchmark.simulate import simulated_dataset
from tools.training.signals import StopSignal
from tools.training.trainer import Trainer
from tools.utils.distributed import Processes
from tools.utils.precision import DTYPES, choose_amp

PROFILED_STEPS, PROFILED_ROWS = 5, 25


def objective(setup: Setup, folder: Path) -> Iterator[StageRow]:
    """Compute the loss of six projections and its gradients."""
    rows, dims = setup.sizes.batch_size, umurl.PROJECTION_SIZE
    z = torch.randn(6, rows, dims, device=setup.device, requires_grad=True)
    names = [f"{stream}{m}" for stream in ("", "multi_") for m in MODALITIES]
    projections = dict(zip(names, z.unbind()))

    def gradient(loss: Callable[[Projections], Tensor]) -> Tensor:
        return torch.autograd.grad(loss(projections), z, retain_graph=True)[0]

    def product(projections: Projections) -> Tensor:
        return umurl_loss(projections).total

    measured = setup.measure(lambda: gradient(product))
    # The smaller Gram matrix, and two products with z in the backward pass.
    limit = setup.product_limit((min(rows, dims), max(rows, dims), min(rows, dims)))
    title = f"batch {rows}, 6 projections of {dims}, forward and backward"
    row = StageRow("objective", title, "step", measured, limit, 6 * 3 * 2 * rows * dims * min(rows, dims))
    if setup.baseline:
        check_same("objective", product(projections), baselines.loss(projections), 1e-5)
        a, b = gradient(product), gradient(baselines.loss)
        check_same("gradient of the objective", (a - b).norm() / b.norm(), 0, 1e-5)
        row.compare(lambda: gradient(baselines.loss), 1, setup)
    yield row


def step(setup: Setup, folder: Path) -> Iterator[StageRow]:
    """Train with feeding, like pretrain.py, and without: the update alone, on tokens that are ready."""
    sizes = setup.sizes
    trainer, title, compiled = _trainer(setup, folder, max(sizes.train, sizes.batch_size))
    order = torch.randperm(len(trainer.dataset), generator=torch.Generator().manual_seed(0))
    order = order[: len(order) // sizes.batch_size * sizes.batch_size].to(trainer.dataset.device)
    batches = itertools.cycle(order.split(sizes.batch_size))
    ready = trainer.feed(next(batches))

    def fed() -> None:
        for _ in range(sizes.queued_steps):
            trainer.train_step(next(batches))

    def bare() -> None:
        for _ in range(sizes.queued_steps):
            trainer.update(ready, [sizes.batch_size])

    limit, needs = _limit(setup, trainer), sizes.batch_size * training_flops(sizes.hidden_size)
    with_feeding = setup.measure(fed, sizes.queued_steps)
    row = StageRow("step", f"with feeding, {title}", "step", with_feeding, limit, needs, sizes.batch_size, compiled)
    if setup.baseline:
        _compare_step(row, trainer, next(batches), setup)
    yield row
    without_feeding = setup.measure(bare, sizes.queued_steps)
    computed, feeding = _computed_flops(trainer, ready), with_feeding.median - without_feeding.median
    note = f"feeding adds {1e3 * feeding:.3g} ms; {needs / 1e12:.3g} TFLOP a step by the textbook formula, "
    note += f"{computed / 1e12:.3g} computed"
    row = StageRow("step", f"without feeding, {title}", "step", without_feeding, limit, needs, sizes.batch_size, note)
    row.more = {"computed_flop": computed, "feeding_seconds": feeding}
    if setup.profile:
        row.more["profile"] = _largest_kernels(trainer, batches)
    yield row


def _trainer(setup: Setup, folder: Path, clips: int) -> tuple[Trainer, str, str]:
    """Make a trainer like that of `pretrain.py`, on `clips` clips. Return it, its title, and a note of the seconds that
    compiling took."""
    sizes = setup.sizes
    dataset = simulated_dataset(folder, min(sizes.clips, clips), clips, setup.device)
    recipe = vars(DATASETS["ntu60"].protocol("xsub").recipe)
    chosen = {"hidden_size": sizes.hidden_size, "batch_size": sizes.batch_size, "compile": setup.compile}
    chosen |= {"amp": choose_amp(setup.amp, setup.device), "objective": "umurl", "pretrain_modalities": MODALITIES}
    weights = {f"{name}_weight": value for name, value in vars(Weights()).items()}
    args = argparse.Namespace(**recipe | chosen | weights, wd=1e-5, seed=0)
    trainer = Trainer(args, Processes(0, 1, setup.device), dataset)
    started = time.perf_counter()
    trainer.compile_and_distribute()
    note = f"compiled in {time.perf_counter() - started:.0f} s" if trainer.compiler.sizes else ""
    precision = {"off": "float32"}.get(args.amp, args.amp)
    title = f"hidden {sizes.hidden_size}, batch {sizes.batch_size}, {precision}{', compiled' if note else ''}"
    return trainer, title, note


def _limit(setup: Setup, trainer: Trainer) -> Limit:
    """Measure the textbook model's largest product: query, key and value of all streams' temporal tokens."""
    hidden, tokens = setup.sizes.hidden_size, (len(MODALITIES) + 1) * setup.sizes.batch_size * NUM_FRAMES
    return setup.product_limit((tokens, hidden, 3 * hidden), DTYPES.get(trainer.args.amp, torch.float32))


def _computed_flops(trainer: Trainer, streams: list) -> int:
    """Count the operations of the model's matrix products in a step."""
    with FlopCounterMode(display=False) as counter:
        torch.stack([p.sum() for p in trainer.model(streams).values()]).sum().backward()
    return counter.get_total_flops()


def _largest_kernels(trainer: Trainer, batches: Iterator[Tensor]) -> list[tuple[float, float, str]]:
    """Profile a step: ms, calls and name of the kernels (on a CPU: operators) that take most of it, after a first row
    for all together."""
    on_gpu = trainer.procs.device.type == "cuda"
    with profile(acc_events=True) as profiler:
        for _ in range(PROFILED_STEPS):
            trainer.train_step(next(batches))
        if on_gpu:
            torch.cuda.synchronize()
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    found = []
    for event in profiler.key_averages():
        if event.device_type == kind and not getattr(event, "is_user_annotation", False):
            microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            found.append((microseconds / 1e3 / PROFILED_STEPS, event.count / PROFILED_STEPS, event.key))
    found.sort(reverse=True)
    return [(sum(ms for ms, *_ in found), sum(calls for _, calls, _ in found), "all"), *found[:PROFILED_ROWS]]


def _compare_step(row: StageRow, trainer: Trainer, rows: Tensor, setup: Setup) -> None:
    args, model = trainer.args, trainer.model
    plain = baselines.PlainTrainer(copy.deepcopy(model), args.lr, args.wd, DTYPES.get(args.amp))

    def views(rows: Tensor) -> tuple[Tensor, ...]:
        """Make the views that `trainer.feed` turns into tokens."""
        clips = trainer.dataset.views(rows, len(model.streams), args.seed, trainer.epoch)
        return baselines.training_view(clips).to(setup.device).chunk(len(model.streams))

    with torch.no_grad():  # in float32: reduced precisions differ by their rounding
        product = umurl_loss(model(trainer.feed(rows[:8]))).total
        check_same("step", product, baselines.loss(baselines.forward(model, views(rows[:8]))), 1e-4)
    row.compare(lambda: plain.step(views(rows)), 1, setup)


def epoch(setup: Setup, folder: Path) -> Iterator[StageRow]:
    """Train an epoch, like `pretrain.py`."""
    sizes = setup.sizes
    clips = sizes.epoch_steps * sizes.batch_size if sizes.epoch_steps else sizes.train
    trainer, title, compiled = _trainer(setup, folder, clips)
    measured = setup.measure(lambda: trainer.train_epoch(StopSignal()), clips / sizes.train)
    part = f"extrapolated from {sizes.epoch_steps} steps, {clips} samples" if clips < sizes.train else ""
    needs, note = sizes.train * training_flops(sizes.hidden_size), "; ".join(filter(None, (part, compiled)))
    title = f"{sizes.train:,} samples, {title}"
    yield StageRow("epoch", title, "epoch", measured, _limit(setup, trainer), needs, sizes.train, note)

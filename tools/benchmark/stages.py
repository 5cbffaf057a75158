"""The stages of the benchmark. Each runs the project's own functions on simulated data, and yields its rows."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import profile

from data_gen.datasets import ROOT
from data_gen.raw.normalise import normalise
from data_gen.raw.sensor import write_performance
from data_gen.raw.simulation import ACTIONS, REPLICATIONS, SUBJECTS
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import NTU_LAYOUT
from feeder.augment import make_view
from feeder.clips import NUM_FRAMES, ClipDataset
from feeder.modalities import PUBLISHED
from models import ENCODERS, METHODS, FrozenEncoder, LossWeights
from tools.benchmark.measure import count_flops, measure
from tools.evaluation import knn
from tools.evaluation.probe import LinearProbe, train_probes
from tools.training.acceleration import DTYPES
from tools.training.recipes import LINEAR_PROBE, pretrain_recipe
from tools.training.trainer import Config, Trainer
from utils.processes import Processes, StopSignal, num_cores

VIEWS = len(PUBLISHED) + 1  # of a clip in a training step
PROFILE_STEPS, PROFILE_ROWS = 5, 25
CLASSES = 60
SHORTEST, MEAN, LONGEST = 30, 84, 300  # frames of a recording


@dataclass(frozen=True)
class Sizes:
    """How much a run of each stage works on. The defaults are NTU-60 cross-subject's."""

    hidden_size: int = 1024
    batch_size: int = 512
    steps: int = 20  # that are queued in a run, as a GPU works while the host goes on
    product: int = 8192
    copy: int = 2**30
    performances: int = 160  # each recorded by three cameras, to convert
    distinct: int = 4096  # simulated recordings
    train: int = 40091
    val: int = 16487
    epoch_clips: int = 40091
    feature_clips: int = 40091 + 16487
    feature_size: int = 2048
    probe_epochs: int = 150
    queries: int = 16487
    seconds: float = 2.0  # that the runs of a row take together, at least


GPU = Sizes()
CPU = Sizes(
    hidden_size=256, batch_size=128, steps=1, product=2048, copy=2**28, epoch_clips=256, feature_clips=1024,
    probe_epochs=5, queries=2048, seconds=5,
)  # fmt: skip
QUICK = Sizes(  # shows that it works, not how fast
    hidden_size=8, batch_size=6, steps=1, product=32, copy=2**20, performances=4, distinct=20, train=400, val=100,
    epoch_clips=18, feature_clips=40, feature_size=16, probe_epochs=5, queries=60, seconds=0,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Where and how to measure."""

    device: torch.device
    sizes: Sizes
    encoder: str = "transformer"
    amp: str = "off"
    compile: str = "auto"
    profile: bool = False

    def row(
        self, stage: str, what: str, call: Callable[[], object], items: int, noun: str, amount: float, limit: dict,
        repeats: int = 1, note: str = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Time a call that works on so many `items`, called `noun`, and needs an `amount` in the limit's unit. Return
        the row's values by name; the share of the limit is at most 1 if the limit is one."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        times = measure(call, self.device, self.sizes.seconds, repeats)
        memory = torch.cuda.max_memory_allocated(self.device) if on_gpu else 0
        seconds = statistics.median(times)
        values = {"stage": stage, "what": what, "times": times, "seconds": seconds, "items": items, "noun": noun}
        values |= {"per_second": items / seconds, "amount": amount, "limit": limit}
        return values | {"share": amount / seconds / limit["rate"], "memory": memory, "note": note, "profile": ""}

    def limit(self, name: str, unit: str, amount: float, call: Callable[[], object]) -> dict[str, Any]:
        """Measure how fast the machine does a simple operation, which needs an `amount` in a unit (FLOP or B)."""
        times = measure(call, self.device, self.sizes.seconds / 5)
        return {"name": name, "unit": unit, "rate": amount / statistics.median(times)}

    def product(self, amp: str = "off") -> dict[str, Any]:
        """Measure the product of two square matrices."""
        size, dtype = self.sizes.product, DTYPES.get(amp, torch.float32)
        a, b = torch.randn(2, size, size, device=self.device).to(dtype)
        name = f"product of {size}³, {str(dtype).removeprefix('torch.')}"
        return self.limit(name, "FLOP", 2 * size**3, lambda: a @ b)


def simulate_clips(count: int, distinct: int, device: torch.device) -> ClipDataset:
    """Simulate `count` recordings, `distinct` ones with repetition; every fifth shows two people."""
    rng = np.random.default_rng(0)
    lengths = (SHORTEST + rng.gamma(2, (MEAN - SHORTEST) / 2, min(distinct, count))).clip(max=LONGEST).astype(np.int64)
    frames = torch.randn(int(lengths.sum()), *NTU_LAYOUT.shape, generator=torch.Generator().manual_seed(0))
    frames[torch.from_numpy(np.repeat(np.arange(len(lengths)) % 5 < 4, lengths)), 1] = 0
    chosen = rng.permutation(np.arange(count) % len(lengths))
    first = np.cumsum(lengths) - lengths
    return ClipDataset(frames.to(device), lengths[chosen], chosen % CLASSES, first[chosen])


def simulate_features(count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Simulate features (N, D) and labels int64 (N,)."""
    rng = torch.Generator().manual_seed(count)
    labels = torch.randint(CLASSES, (count,), generator=rng)
    return torch.randn(count, size, generator=rng).to(device), labels.to(device)


def convert(bench: Bench) -> Iterator[dict]:
    """Read and normalise recordings, then run the whole program."""
    cores = num_cores()
    with TemporaryDirectory(prefix="umurl_benchmark_") as name:
        raw, out = Path(name) / "raw", Path(name) / "out"
        raw.mkdir()
        for performance in list(itertools.product(SUBJECTS, REPLICATIONS, ACTIONS))[: bench.sizes.performances]:
            write_performance(raw, 0, performance)
        texts = [path.read_bytes() for path in sorted(raw.iterdir())]
        some = texts[:: len(texts) // 10]
        command = [sys.executable, str(ROOT / "data_gen/ntu_gendata.py"), "--dataset", "ntu60", "--raw", str(raw)]
        command += ["--out", str(out), "--workers", str(cores)]

        def read() -> None:
            for text in some:
                normalise(parse_skeleton(text))

        def program() -> None:
            subprocess.run(command, check=True, capture_output=True)

        size = sum(map(len, some))
        limit = bench.limit("split of the text", "B", size, lambda: [text.split() for text in some])
        yield bench.row("convert", "recordings, one core", read, len(some), "recordings", size, limit)
        limit, size = limit | {"rate": cores * limit["rate"]}, sum(map(len, texts))
        what = f"ntu_gendata.py with its start, {size / 1e6:.0f} MB, cores: {cores}"
        yield bench.row("convert", what, program, len(texts), "recordings", size, limit)


def feed(bench: Bench) -> Iterator[dict]:
    """Make the augmented views of a batch."""
    size, view, steps = bench.sizes.batch_size, make_view("published", NTU_LAYOUT), itertools.count()
    dataset = simulate_clips(bench.sizes.distinct, bench.sizes.distinct, bench.device)
    indices = torch.arange(size, device=bench.device)

    def views() -> None:
        step = next(steps)
        view(*dataset.views((indices + step * size) % len(dataset), VIEWS, 0, step))

    # For each value of a view, a value is read and a value is written, at least.
    amount = 2 * 4 * VIEWS * size * NUM_FRAMES * NTU_LAYOUT.size
    source, target = torch.zeros(2, bench.sizes.copy // 4, device=bench.device)
    limit = bench.limit("copy", "B", 2 * bench.sizes.copy, lambda: target.copy_(source))
    yield bench.row("feed", f"{VIEWS} views, batch {size}", views, size, "clips", amount, limit, bench.sizes.steps)


def step(bench: Bench) -> Iterator[dict]:
    """Train a step with feeding, as pretrain.py does, and without: on inputs that are ready."""
    size = bench.sizes.batch_size
    clips = max(1, bench.sizes.train // size) * size
    trainer, title, note, flop = _make_trainer(bench, clips)
    batches = itertools.cycle(torch.arange(clips, device=bench.device).split(size))
    ready, limit = trainer.make_inputs(next(batches)), bench.product(bench.amp)
    for what, call in (
        ("with feeding", lambda: trainer.train_step(next(batches))),
        ("without feeding", lambda: trainer.optimizer_step(ready, [size])),
    ):
        row = bench.row("step", f"{title}, {what}", call, size, "clips", flop, limit, bench.sizes.steps, note)
        yield row | {"profile": _profile(call, bench.device)} if bench.profile else row


def epoch(bench: Bench) -> Iterator[dict]:
    """Train an epoch, as pretrain.py does."""
    clips = bench.sizes.epoch_clips
    trainer, title, note, flop = _make_trainer(bench, clips)
    amount, limit, stop = flop * clips / bench.sizes.batch_size, bench.product(bench.amp), StopSignal()
    yield bench.row("epoch", title, lambda: trainer.train_epoch(stop), clips, "clips", amount, limit, note=note)


def _make_trainer(bench: Bench, clips: int) -> tuple[Trainer, str, str, int]:
    """Make a trainer on so many clips, as pretrain.py. Return it, its title, a note, and the operations of a step."""
    sizes, recipe = bench.sizes, vars(pretrain_recipe("ntu60", "xsub"))
    options = {"hidden_size": sizes.hidden_size, "batch_size": sizes.batch_size, "encoder": bench.encoder}
    config = Config(Path(), Path(), "ntu60", "xsub", **recipe | options, amp=bench.amp, compile=bench.compile)
    encoder = ENCODERS[config.encoder](config.hidden_size, PUBLISHED, NTU_LAYOUT)
    dataset = simulate_clips(clips, sizes.distinct, bench.device)
    trainer = Trainer(config, METHODS[config.method](encoder, LossWeights()), dataset, Processes(0, 1, bench.device))
    inputs = trainer.make_inputs(torch.arange(sizes.batch_size, device=bench.device) % len(dataset))
    flop = count_flops(lambda: trainer.optimizer_step(inputs, [sizes.batch_size]))  # before it is compiled
    uncompiled, start = trainer.compute_loss, time.perf_counter()
    trainer.start()
    compiled = f", compiled in {time.perf_counter() - start:.0f} s" if trainer.compute_loss != uncompiled else ""
    title = f"{bench.encoder}, hidden {sizes.hidden_size}, batch {sizes.batch_size}, amp {bench.amp}"
    return trainer, title, f"{flop / 1e12:.3g} TFLOP a step{compiled}", flop


def _profile(call: Callable[[], object], device: torch.device) -> str:
    """Return a table of the kernels (on a CPU: operators) that take most of a call's time."""
    with profile(acc_events=True) as profiler:
        for _ in range(PROFILE_STEPS):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return profiler.key_averages().table(f"self_{device.type}_time_total", PROFILE_ROWS)


def features(bench: Bench) -> Iterator[dict]:
    """Encode recordings, all modalities fused."""
    sizes, clips = bench.sizes, bench.sizes.feature_clips
    encoder = ENCODERS[bench.encoder](sizes.hidden_size, PUBLISHED, NTU_LAYOUT).eval().to(bench.device)
    frozen, dataset = FrozenEncoder(encoder, {}), simulate_clips(clips, sizes.distinct, bench.device)
    flop = count_flops(lambda: frozen.features(dataset))
    what = f"{bench.encoder}, hidden {sizes.hidden_size}, float32"
    yield bench.row("features", what, lambda: frozen.features(dataset), clips, "clips", flop, bench.product())


def probe(bench: Bench) -> Iterator[dict]:
    """Train the linear probe on cached features: one run, and three seeds of three learning rates at once."""
    sizes = bench.sizes
    train, val = (simulate_features(n, sizes.feature_size, bench.device) for n in (sizes.train, sizes.val))
    recipe, limit = replace(LINEAR_PROBE, epochs=sizes.probe_epochs), bench.product()
    for seeds, lrs in (([0], [0.03]), ([0, 1, 2], [0.01, 0.03, 0.1])):

        def call(seeds: list[int] = seeds, lrs: list[float] = lrs) -> None:
            train_probes({"all": LinearProbe(*train, CLASSES, recipe, seeds, lrs)}, {"all": val[0]}, val[1], {})

        what = f"{sizes.train:,} × {sizes.feature_size:,}, {len(seeds)} × {len(lrs)} seeds and rates"
        yield bench.row("probe", what, call, sizes.probe_epochs, "epochs", count_flops(call), limit)


def retrieve(bench: Bench) -> Iterator[dict]:
    """Find the nearest of the gallery to each query, without and with each query's average precision."""
    sizes = bench.sizes
    gallery, queries = (simulate_features(n, sizes.feature_size, bench.device) for n in (sizes.train, sizes.queries))
    limit, title = bench.product(), f"in {sizes.train:,} × {sizes.feature_size:,}, "
    for what, call in (
        ("nearest", lambda: knn.nearest(queries[0], gallery[0], 1)),
        ("nearest and mAP", lambda: knn.retrieve(*queries, *gallery, 1)),
    ):
        yield bench.row("retrieve", title + what, call, sizes.queries, "queries", count_flops(call), limit)

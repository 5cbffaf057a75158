"""Small inputs that many tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from data_gen.datasets import DATASETS, ROOT
from data_gen.ntu_gendata import convert
from data_gen.packed.protocols import Table, derive, parse_split
from data_gen.packed.reader import PackedDataset
from data_gen.packed.writer import packing
from data_gen.skeletons import NTU_LAYOUT, SKELETONS
from feeder.modalities import PUBLISHED
from feeder.modalities import derive as derive_modalities
from models import ENCODERS, METHODS, LossWeights

if TYPE_CHECKING:
    from torch import Tensor

    from models.umurl import Method

GOLDEN = Path(__file__).parent / "golden"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")


def skeleton_text(frames: list[list[np.ndarray]], newline: str = "\n") -> bytes:
    """A `.skeleton` text of frames[t] = list of bodies (25, 3)."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += ["72057594037930004 0 1 1 1 1 0 -0.02 0.05 2", "25"]
            lines += [f"{x:.7g} {y:.7g} {z:.7g} 250.1 190.2 1000.3 500.4 -0.1 0.2 0.3 0.4 2" for x, y, z in body]
    return (newline.join(lines) + newline).encode()


def moving_body(rng: np.random.Generator, num_frame: int, action: int = 1) -> list[list[np.ndarray]]:
    """One person whose joints swing in a way that depends on the action."""
    rest = rng.normal(size=(25, 3)) * 0.1 + np.linspace(-0.8, 0.8, 25)[:, None] + [0, 0, 3]
    phase = np.linspace(0, 2 * np.pi, num_frame)[:, None, None]
    swing = 0.3 * np.sin(phase * action + np.arange(25)[:, None]) * [1, 0.5, 0.2]
    return [[frame] for frame in rest + swing + rng.normal(size=(num_frame, 25, 3)) * 0.01]


def write_recordings(folder: Path, subjects=(1, 2, 3, 6), actions=(1, 2, 3), cameras=(1, 2), num_frame=(40, 90)):
    """A small data set of simulated recordings; subjects 3 and 6 are on the val split of x-sub."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for p in subjects:
        for a in actions:
            for c in cameras:
                text = skeleton_text(moving_body(rng, int(rng.integers(*num_frame)), a))
                (folder / f"S001C{c:03d}P{p:03d}R001A{a:03d}.skeleton").write_bytes(text)


def video_frames(rng: np.random.Generator, num_frame: int) -> np.ndarray:
    """Frames (T, 150) of a PKU-MMD video: one person who is always there, one who comes after a third of it."""
    people = rng.normal(size=(2, 25, 3)) * 0.3 + [0, 0, 3] + rng.normal(size=(num_frame, 2, 25, 3)).cumsum(0) * 0.01
    people[: num_frame // 3, 1] = 0
    return people.reshape(num_frame, 150)


def video_text(frames: np.ndarray, spelling: str = "%.7g") -> str:
    """Frames (T, 150) as PKU-MMD's text, a line a frame."""
    return "".join(" ".join(spelling % v for v in frame) + "\n" for frame in frames)


def tiny_dataset(folder: Path, name: str = "demo", **options) -> PackedDataset:
    """`write_recordings`, converted into folder/name."""
    write_recordings(folder / "raw", **options)
    convert(DATASETS[name], [folder / "raw"], folder / name)
    return PackedDataset(folder / name)


def own_dataset(
    folder: Path, skeleton: str, people: int, coordinates: int, splits=("fold=kfold:2",), name: str = "mine", num=24
) -> PackedDataset:
    """A packed data set that is not in the table, of simulated people, by six subjects in three classes."""
    rng = np.random.default_rng(0)
    table = Table([f"clip_{i:02d}" for i in range(num)], [f"s{i % 6}" for i in range(num)])
    definition = SKELETONS[skeleton]
    shape = (people, len(definition.joints), coordinates)
    with packing(folder, shape) as writer:
        for i, recording in enumerate(table.names):
            length = int(rng.integers(20, 70))
            phase = np.linspace(0, 2 * np.pi, length)[:, None, None, None] * (1 + i % 3)
            clip = np.sin(phase + np.arange(shape[1])[:, None]) + rng.normal(size=(length, *shape)) * 0.05
            clip[:, 1 + i % people :] = 0
            writer.add(recording, i % 3, clip)
        made, rules = derive([parse_split(text) for text in splits], table)
        info = {"dataset": name, "title": "my recordings", "classes": 3, "skeleton": definition.to_json()}
        writer.finish(made, info, {"subject": table.column("subject")}, rules)
    return PackedDataset(folder)


def make_method(hidden_size: int, modalities=PUBLISHED, layout=NTU_LAYOUT, method="umurl", encoder="transformer"):
    """An untrained method of pre-training."""
    return METHODS[method](ENCODERS[encoder](hidden_size, modalities, layout), LossWeights())


def streams_of(method: Method, views: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """What the feeder hands to a method: the modalities of a view (B, T, M, V, C) for each of its streams."""
    import torch

    parents = torch.tensor(method.encoder.layout.skeleton.parents)
    return [derive_modalities(view, modalities, parents) for view, modalities in zip(views, method.streams)]


def is_running(pid: int) -> bool:
    """Whether a process works still. Of one whose parent was killed, nobody may ask for its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def run_python(*args: str | Path, env: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess:
    """Run a program of the project from its root."""
    command = [sys.executable, *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, **options)

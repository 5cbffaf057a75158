"""Simulate data of NTU's shape: random people in files of the real format, length and size."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from data_gen.packed.reader import FRAME_SHAPE, PackedDataset
from data_gen.packed.writer import packing
from data_gen.raw.skeleton_file import NUM_JOINTS
from feeder.clips import ClipDataset

LENGTHS = (30, 300)  # frames of the shortest and the longest recording
_MEAN_ABOVE = 54.0  # mean length, less the shortest
_BODY = "72057594037927936 0 1 1 1 1 0 %.8g %.8g 2\n25\n" + NUM_JOINTS * (" ".join(["%.7g"] * 11) + " 2\n")


def people_of(index: int) -> int:
    """Return the number of people in a recording: two in every fifth, else one."""
    return 2 if index % 5 == 4 else 1


def skeleton_texts(count: int, num_frame: int) -> list[bytes]:
    """Make texts of `count` recordings of `num_frame` frames, with numbers of seven digits as from a sensor."""
    rng = np.random.default_rng(0)
    return [_skeleton_text(people_of(i), num_frame, rng) for i in range(count)]


def _skeleton_text(people: int, num_frame: int, rng: np.random.Generator) -> bytes:
    columns = np.empty((num_frame, people, NUM_JOINTS, 11))
    rest = rng.normal(0, 0.4, (people, NUM_JOINTS, 3)) + [0, 0, 3]
    phase = np.linspace(0, 6, num_frame)[:, None, None, None] + rng.uniform(0, 6, rest.shape)
    columns[..., :3] = rest + 0.2 * np.sin(phase) + rng.normal(0, 0.005, phase.shape)
    columns[..., 3:7] = rng.uniform(0, [512, 424, 1920, 1080], (*columns.shape[:3], 4))
    turn = rng.normal(size=(*columns.shape[:3], 4))
    columns[..., 7:] = turn / np.linalg.norm(turn, axis=-1, keepdims=True)
    lines = [f"{num_frame}\n"]
    for frame in columns:
        lines.append(f"{people}\n")
        lines += [_BODY % (*rng.normal(0, 0.3, 2), *body.ravel().tolist()) for body in frame]
    return "".join(lines).encode()


def write_recordings(folder: Path, archive: Path, texts: list[bytes], count: int) -> None:
    """Write `count` recordings as files into `folder` and into the zip `archive`, with the `texts` in turn."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as entries:
        for i in range(count):
            name = f"S{1 + i // 120:03d}C{1 + i // 40 % 3:03d}P{1 + i % 40:03d}R001A{1 + i % 60:03d}.skeleton"
            (folder / name).write_bytes(texts[i % len(texts)])
            entries.writestr(name, texts[i % len(texts)])


def simulated_dataset(folder: Path, distinct: int, count: int, device: torch.device) -> ClipDataset:
    """Write `distinct` simulated recordings into `folder` as a packed data set, open it like a program, and return
    `count` of its recordings, with repetition."""
    rng = np.random.default_rng(0)
    lengths = np.clip(LENGTHS[0] + rng.gamma(2, _MEAN_ABOVE / 2, distinct), *LENGTHS).astype(int)
    with packing(folder) as writer:
        for i, length in enumerate(lengths):
            people = rng.standard_normal((length, *FRAME_SHAPE), np.float32)
            people[:, people_of(i) :] = 0
            writer.add(f"{i:06d}", i % 60, people)
        writer.finish({}, {"dataset": "ntu60", "title": "simulated", "classes": 60, "protocols": {}})
    packed = PackedDataset(folder)
    chosen = rng.permutation(np.arange(count) % distinct)
    return ClipDataset.of_dataset(packed, chosen, device)

"""Small long recordings for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_gen import import_dataset
from data_gen.packed.reader import PackedDataset
from tests.helpers import moving_body, skeleton_text

CLASSES = ("wave", "sit", "jump")
CYCLE = 150  # frames: a pause of 60, an action of 70, a pause of 20


def long_frames(rng: np.random.Generator, actions: list[int]) -> list[list[np.ndarray]]:
    """Frames of a recording in which the body swings in another way in each action, and stands still between them."""
    frames: list[list[np.ndarray]] = []
    for action in actions:
        moving = moving_body(rng, 70, action + 1)
        frames += [moving[0]] * 60 + moving + [moving[-1]] * 20
    return frames


def write_long(folder: Path, count: int = 6, actions: int = 4) -> Path:
    """A folder of long recordings with its tables; they alternate between the splits of `easy`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    segments, recordings = ["name,start,end,label"], ["name,subject,split:easy"]
    for number in range(count):
        done = [(number + i) % len(CLASSES) for i in range(actions)]
        (folder / f"rec{number}.skeleton").write_bytes(skeleton_text(long_frames(rng, done)))
        segments += [f"rec{number},{i * CYCLE + 60},{i * CYCLE + 130},{CLASSES[a]}" for i, a in enumerate(done)]
        recordings.append(f"rec{number},s{number % 3},{('train', 'val')[number % 2]}")
    (folder / "segments.csv").write_text("\n".join(segments) + "\n")
    (folder / "recordings.csv").write_text("\n".join(recordings) + "\n")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def pack_long_folder(folder: Path, out: Path, name: str = "mine") -> PackedDataset:
    import_dataset.main(["long", "--name", name, str(folder), "--out", str(out)])
    return PackedDataset(out)

"""Open long recordings: those of a data set with segments, to train and measure detectors, and a user's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data_gen.datasets import UNTRIMMED, choose_data, classes_of, open_dataset, packed_in
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.packed.writer import FRAME_RATE
from data_gen.raw.recordings import Recording, find_inputs
from data_gen.skeletons import FrameLayout, map_joints
from models.frozen import FrozenEncoder, check_layout
from tools.evaluation.setup import Evaluation
from utils.errors import UserError


class LongRecording(NamedTuple):
    """A recording; `read` returns its bodies (T, slots, V, C) as recorded, with the encoder's joints. truth: the true
    segments (start, end, name of the class), if known."""

    name: str
    read: Callable[[], np.ndarray]
    truth: list[tuple[int, int, str]] | None
    frame_rate: float = float(FRAME_RATE)


def open_recordings(places: Sequence[Path], encoder: FrozenEncoder, skeleton: str | None) -> list[LongRecording]:
    """Find the recordings in packed data sets, folders (without subfolders), zip archives and files. `.csv` and `.npy`
    have the joints of `skeleton`; default: of the skeleton.json beside them, else the encoder's."""
    packed = [place for place in places if (place / INFO).is_file()]
    recordings = [recording for place in packed for recording in _of_dataset(PackedDataset(place), encoder)]
    if others := [place for place in places if place not in packed]:
        inputs = find_inputs(others, skeleton, encoder.layout.skeleton, subfolders=False)
        for note in inputs.notes:
            print(f"note: {note}", file=sys.stderr)
        recordings += [LongRecording(r.name, partial(_read, r, encoder), r.truth) for r in inputs.recordings]
    names = [recording.name for recording in recordings]
    if len(set(names)) < len(names):
        name = max(names, key=names.count)
        raise UserError(f"two recordings are called {name}: give the places one after the other")
    return recordings


def _of_dataset(packed: PackedDataset, encoder: FrozenEncoder) -> list[LongRecording]:
    if packed.segments is None:
        raise UserError(f"{packed.path}: holds clips, not long recordings; tools.predict takes them")
    packed, classes = _adapt(packed, encoder), classes_of(packed)
    rate = float(packed.info.get("frame_rate", FRAME_RATE))
    truth = [[(start, end, classes[label]) for start, end, label in segments] for segments in packed.segments or ()]
    names = enumerate(packed.names.tolist())
    return [LongRecording(name, partial(packed.recording, i), truth[i], rate) for i, name in names]


def _read(recording: Recording, encoder: FrozenEncoder) -> np.ndarray:
    bodies, skeleton = recording.bodies(), recording.skeleton
    check_layout(encoder, FrameLayout(skeleton, bodies.shape[1], bodies.shape[3]), recording)
    return map_joints(bodies, skeleton, encoder.layout.skeleton)


def _adapt(packed: PackedDataset, encoder: FrozenEncoder) -> PackedDataset:
    """Map the joints of long recordings onto the encoder's. All bodies stay: each window chooses among them."""
    check_layout(encoder, packed.layout, packed.path)
    return packed.adapted(encoder.layout.skeleton, packed.layout.people)


def open_long_evaluation(
    pretrained: str, dataset: str | None, protocol: str | None, data_root: Path, device: torch.device
) -> Evaluation:
    """Load an encoder onto `device`, and open a data set of long recordings, `NAME_untrimmed` or NAME. Without a name,
    data set and protocol are the checkpoint's own."""
    encoder = FrozenEncoder.open(pretrained, device)
    own = encoder.state.get("dataset")
    name = dataset or own
    if not name:
        raise UserError(f"--finetune-dataset: name one, as {encoder.path} has none")
    if name == own:
        protocol = protocol or encoder.state.get("protocol")
    if name + UNTRIMMED in packed_in(data_root):
        name += UNTRIMMED
    row, chosen = choose_data(name, protocol, name, data_root)
    packed = _adapt(open_dataset(data_root, row, chosen, long=True), encoder)
    return Evaluation.of(encoder, row, chosen, packed)

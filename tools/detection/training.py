"""Train a detector on the windows of long recordings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from models.detector import Detector
from models.inference import resize
from torch import Tensor

from data_gen.packed.reader import PackedDataset
from data_gen.packed.segments import Segment
from feeder.clips import NUM_FRAMES
from feeder.modalities import ModalityTokens
from feeder.windows import normalise_window
from tools.utils.errors import UserError
from tools.utils.logs import progress


@dataclass(frozen=True)
class DetectionRecipe:
    """How to train a detector: windows of `window` frames, one every `stride`; Adam at rate `lr`, which drops to a
    tenth for the last fifth of the epochs."""

    window: int
    stride: int
    lr: float
    epochs: int
    batch_size: int
    seed: int


def frame_labels(segments: Sequence[Segment], num_frame: int, num_classes: int) -> np.ndarray:
    """Label each frame of a recording: int64 (T,); background is `num_classes`."""
    labels = np.full(num_frame, num_classes)
    for start, end, label in segments:
        labels[start:end] = label
    return labels


def train_detector(detector: Detector, packed: PackedDataset, rows: np.ndarray, recipe: DetectionRecipe) -> list[float]:
    """Train on the recordings at `rows`, int64, of a data set with segments, on the detector's device. Return each
    epoch's mean loss. Raises UserError if a loss is not finite."""
    device = detector.linear.weight.device
    tokens = ModalityTokens(detector.backbone.layout).to(device)
    optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], recipe.lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [recipe.epochs - recipe.epochs // 5], gamma=0.1)
    losses = []
    for epoch in progress(range(recipe.epochs), desc="detection", unit="epoch"):
        detector.train()
        total, count = 0.0, 0
        for clips, labels in _batches(detector, packed, rows, recipe, epoch):
            scores = detector(tokens(clips.to(device), detector.modalities))
            loss = F.cross_entropy(scores.flatten(0, 1), labels.to(device).flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * len(clips), count + len(clips)
        schedule.step()
        losses.append(total / count)
        if not abs(losses[-1]) < float("inf"):
            raise UserError(f"the loss of epoch {epoch} is not finite, so training stops: lower --lr")
        logging.getLogger("umurl").info(f"epoch {epoch} ({epoch + 1} of {recipe.epochs}): loss {losses[-1]:.4g}")
    return losses


def _batches(
    detector: Detector, packed: PackedDataset, rows: np.ndarray, recipe: DetectionRecipe, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of an epoch: windows float32 (B, 64, M, V, C) and labels int64 (B, 64). The windows' starts and
    order depend on seed and epoch alone."""
    assert packed.segments is not None
    rng = np.random.default_rng([recipe.seed, epoch])
    offsets = rng.integers(recipe.stride, size=len(rows))
    places = [
        (row, start)
        for row, offset in zip(rows.tolist(), offsets.tolist())
        for start in range(offset, max(offset + 1, int(packed.num_frame[row]) - recipe.window + 1), recipe.stride)
    ]
    order = rng.permutation(len(places))
    for some in np.array_split(order, -(-len(places) // recipe.batch_size)):
        clips, labels = [], []
        for row, start in (places[i] for i in some.tolist()):
            num_frame = int(packed.num_frame[row])
            start = max(0, min(start, num_frame - recipe.window))
            frames = packed.recording(row)[start : start + recipe.window]
            window = normalise_window(start, frames, detector.backbone.layout)
            clips.append(resize(torch.from_numpy(window.clip)[None]))
            of_frames = frame_labels(packed.segments[row], num_frame, packed.num_classes)[start : start + len(frames)]
            nearest = (np.arange(NUM_FRAMES) + 0.5) * len(frames) // NUM_FRAMES
            labels.append(torch.from_numpy(of_frames[nearest.astype(np.int64)]))
        yield torch.cat(clips), torch.stack(labels)

"""Train a detector on windows of long recordings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.packed.reader import PackedDataset
from data_gen.packed.segments import Segment
from feeder.clips import NUM_FRAMES, resample
from feeder.windows import normalise_window
from tools.detection.detector import Detector
from utils.errors import UserError
from utils.logs import progress

log = logging.getLogger("umurl")


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


def train_detector(
    detector: Detector, packed: PackedDataset, indices: np.ndarray, recipe: DetectionRecipe
) -> list[float]:
    """Train on the recordings at `indices`, int64, of a data set with segments. Return each epoch's mean loss."""
    device = detector.parents.device
    optimizer = torch.optim.Adam(trained_parameters(detector), recipe.lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [recipe.epochs - recipe.epochs // 5], gamma=0.1)
    detector.train(detector.finetune)
    losses = []
    for epoch in progress(range(recipe.epochs), desc="detection", unit="epoch"):
        total, count = 0.0, 0
        for clips, labels in _batches(detector, packed, indices, recipe, epoch):
            loss = F.cross_entropy(detector(clips.to(device)).flatten(0, 1), labels.to(device).flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * len(clips), count + len(clips)
        schedule.step()
        losses.append(total / count)
        if not abs(losses[-1]) < float("inf"):
            raise UserError(f"the loss of epoch {epoch} is not finite, so training stops: lower --lr")
        log.info(f"epoch {epoch} ({epoch + 1} of {recipe.epochs}): loss {losses[-1]:.4g}")
    return losses


def trained_parameters(detector: Detector) -> list[nn.Parameter]:
    """Return the parameters that get a gradient: not those of a frozen encoder, nor parts that frame features of these
    modalities do not use."""
    detector(torch.zeros(1, NUM_FRAMES, *detector.layout.shape, device=detector.parents.device)).sum().backward()
    parameters = [parameter for parameter in detector.parameters() if parameter.grad is not None]
    detector.zero_grad()
    return parameters


def _batches(
    detector: Detector, packed: PackedDataset, indices: np.ndarray, recipe: DetectionRecipe, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of an epoch: windows float32 (B, 64, M, V, C) and labels int64 (B, 64). The windows' starts and
    order depend on seed and epoch alone."""
    assert packed.segments is not None
    rng = np.random.default_rng([recipe.seed, epoch])
    offsets = rng.integers(recipe.stride, size=len(indices))
    places = [
        (index, start)
        for index, offset in zip(indices.tolist(), offsets.tolist())
        for start in range(offset, max(offset + 1, int(packed.num_frame[index]) - recipe.window + 1), recipe.stride)
    ]
    order = rng.permutation(len(places))
    for some in np.array_split(order, -(-len(places) // recipe.batch_size)):
        clips, labels = [], []
        for index, start in (places[i] for i in some.tolist()):
            num_frame = int(packed.num_frame[index])
            start = max(0, min(start, num_frame - recipe.window))
            frames = packed.recording(index)[start : start + recipe.window]
            clip, _ = normalise_window(frames, detector.layout)
            clips.append(resample(torch.from_numpy(clip)[None]))
            of_frames = frame_labels(packed.segments[index], num_frame, packed.num_classes)[start : start + len(frames)]
            nearest = (np.arange(NUM_FRAMES) + 0.5) * len(frames) // NUM_FRAMES
            labels.append(torch.from_numpy(of_frames[nearest.astype(np.int64)]))
        yield torch.cat(clips), torch.stack(labels)

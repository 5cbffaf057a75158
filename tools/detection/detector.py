"""The detector of actions in windows: the module, its training, and its file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.packed.reader import PackedDataset
from data_gen.packed.segments import Segment
from feeder.clips import NUM_FRAMES, resample
from feeder.modalities import ENSEMBLE, derive
from feeder.windows import normalise_window
from models import checkpoints
from models.encoder import Encoder
from models.frozen import FrozenEncoder
from models.published import new_key
from tools.evaluation.classifier import new_linear
from tools.training.recipes import rate_at
from utils.errors import UserError
from utils.files import reading
from utils.logs import progress

log = logging.getLogger("umurl")


class Detector(nn.Module):
    """Classify the frames of windows by a Linear on the encoder's frame features; classes come first, background last.

    source: the encoder, with the stream that the detector takes. finetune: train a copy of it, too. classes: their
    names. window: its length in training, in frames.
    """

    encoder: Encoder
    parents: Tensor

    def __init__(self, source: FrozenEncoder, classes: Sequence[str], window: int, finetune: bool, seed: int = 0):
        super().__init__()
        if len(source.streams) > 1:
            raise UserError(f"--modality {ENSEMBLE}: a detector takes one stream; give all or a modality")
        (self.stream,), self.modality, self.layout = source.streams, source.modality, source.layout
        self.classes, self.window, self.finetune = list(classes), window, finetune
        self.encoder = deepcopy(source.encoder).requires_grad_() if finetune else source.encoder
        self.linear = new_linear(source.feature_size, len(classes) + 1, torch.Generator().manual_seed(seed))
        self.register_buffer("parents", source.parents, persistent=False)
        self.to(source.device).eval()

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (B, 64, classes + 1) of resampled windows (B, 64, M, V, C)."""
        logits = self.linear(self.encoder.frame_features(derive(clips, self.stream, self.parents)))
        return F.interpolate(logits.mT, size=NUM_FRAMES, mode="linear", align_corners=False).mT


# ---- training --------------------------------------------------------------------------------------------------------


def train_detector(
    detector: Detector,
    packed: PackedDataset,
    indices: np.ndarray,
    stride: int,
    lr: float,
    epochs: int,
    batch_size: int,
    seed: int,
) -> list[float]:
    """Train on windows of the recordings at `indices`, int64, of a data set with segments: one every `stride` frames,
    by Adam at rate `lr`, which drops to a tenth for the last fifth of the epochs. Return each epoch's mean loss."""
    device = detector.parents.device
    optimizer = torch.optim.Adam(detector.parameters(), lr)  # parameters without a gradient stay as they are
    detector.train(detector.finetune)
    losses = []
    for epoch in progress(range(epochs), desc="detection", unit="epoch"):
        optimizer.param_groups[0]["lr"] = rate_at(lr, [epochs - epochs // 5], epoch)
        total, count = 0.0, 0
        rng = np.random.default_rng([seed, epoch])
        for clips, labels in _batches(detector, packed, indices, stride, batch_size, rng):
            loss = F.cross_entropy(detector(clips.to(device)).flatten(0, 1), labels.to(device).flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * len(clips), count + len(clips)
        losses.append(total / count)
        if not math.isfinite(losses[-1]):
            raise UserError(f"the loss of epoch {epoch} is not finite, so training stops: lower --lr")
        log.info(f"epoch {epoch} ({epoch + 1} of {epochs}): loss {losses[-1]:.4g}")
    return losses


def _batches(
    detector: Detector,
    packed: PackedDataset,
    indices: np.ndarray,
    stride: int,
    batch_size: int,
    rng: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of an epoch: windows float32 (B, 64, M, V, C) and labels int64 (B, 64)."""
    assert packed.segments is not None
    offsets = rng.integers(stride, size=len(indices))
    last = np.maximum(packed.num_frame - detector.window, 0)  # start of a recording's last window
    places = [
        (index, start)
        for index, offset in zip(indices, offsets)
        for start in range(min(offset, last[index]), last[index] + 1, stride)
    ]
    order = rng.permutation(len(places))
    for batch in np.array_split(order, -(-len(places) // batch_size)):
        clips, labels = [], []
        for index, start in (places[i] for i in batch):
            frames = packed.recording(index)[start : start + detector.window]
            clip, _ = normalise_window(frames, detector.layout)
            clips.append(resample(torch.from_numpy(clip)[None]))
            middles = start + (2 * np.arange(NUM_FRAMES) + 1) * len(frames) // (2 * NUM_FRAMES)
            labels.append(torch.from_numpy(frame_labels(packed.segments[index], middles, packed.num_classes)))
        yield torch.cat(clips), torch.stack(labels)


def frame_labels(segments: Sequence[Segment], frames: np.ndarray, background: int) -> np.ndarray:
    """Label frames, given by their positions in a recording: int64 (T,)."""
    labels = np.full(len(frames), background)
    for start, end, label in segments:
        labels[(start <= frames) & (frames < end)] = label
    return labels


# ---- file ------------------------------------------------------------------------------------------------------------


def write_detector(path: Path, detector: Detector, encoder: FrozenEncoder) -> None:
    """Write a detector that was trained on an encoder; with the detector's copy of it, if that was fine-tuned."""
    weights = detector.state_dict() if detector.finetune else detector.linear.state_dict(prefix="linear.")
    about = {name: getattr(detector, name) for name in ("classes", "window", "modality")}
    about |= {"encoder": encoder.weights_hash, "checkpoint": encoder.path.name, "versions": checkpoints.versions()}
    checkpoints.write(path, about | {"weights": {key: value.cpu().clone() for key, value in weights.items()}})


def read_detector(path: Path, encoder: FrozenEncoder) -> Detector:
    """Read a detector. Raises UserError if it was trained on another encoder."""
    with reading(path, f"; train a detector by python -m tools.detect --pretrained {encoder.path}"):
        state = checkpoints.load_tensors(path)
        if state["encoder"] != encoder.weights_hash:
            raise UserError(f"was trained on the encoder of {state['checkpoint']}, not of {encoder.path}")
        weights = {new_key(key): value.float() for key, value in state["weights"].items()}  # earlier files, too
        finetune = any(key.startswith("encoder.") for key in weights)
        selected = encoder.select(state["modality"])
        detector = Detector(selected, [str(name) for name in state["classes"]], int(state["window"]), finetune)
        if not finetune:
            weights |= detector.encoder.state_dict(prefix="encoder.")
        expected = detector.state_dict()
        # Encoders of earlier files have parts for all modalities, trained or not.
        checkpoints.load_weights(detector, {key: value for key, value in weights.items() if key in expected})
        return detector

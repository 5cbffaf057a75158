"""The detector of actions in windows, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.clips import NUM_FRAMES
from feeder.modalities import ENSEMBLE, derive
from models import checkpoints
from models.encoder import Encoder
from models.frozen import FrozenEncoder
from models.published import new_key
from tools.evaluation.classifier import new_linear
from utils.errors import UserError
from utils.files import reading


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
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            features = self.encoder.frame_features(derive(clips, self.stream, self.parents))
        logits = self.linear(features)
        if logits.shape[1] == NUM_FRAMES:
            return logits
        return F.interpolate(logits.mT, size=NUM_FRAMES, mode="linear", align_corners=False).mT


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

"""The frozen encoder as a library has it: normalised recordings in, features out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.clips import NUM_FRAMES
from feeder.modalities import ModalityTokens
from feeder.modality_names import modalities_of
from models import loading
from models.checkpoint_files import newest
from models.encoder import Backbone


class ClipEncoder(nn.Module):
    """Clips of any length, float32 (B, T, M, V, C), in; features (B, 2H) out. One modality is encoded without fusion,
    several are fused. It holds nothing but tensors' arithmetic, so that it can be traced."""

    def __init__(self, backbone: Backbone, modalities: Sequence[str]):
        super().__init__()
        self.backbone = backbone
        self.modalities = tuple(modalities)
        self.tokens = ModalityTokens(backbone.layout)

    def forward(self, clips: Tensor) -> Tensor:
        return self.backbone(self.tokens(resize(clips), self.modalities))


class Encoder(nn.Module):
    """What `load_encoder` returns. `feature_size` is 2H, `modalities` are those that it fuses, `layout` is what frames
    hold: people, joints and coordinates, (2, 25, 3) for NTU."""

    def __init__(self, backbone: Backbone, modalities: Sequence[str]):
        super().__init__()
        self.clip_encoder = ClipEncoder(backbone, modalities)
        self.modalities, self.layout = self.clip_encoder.modalities, backbone.layout
        self.feature_size = 2 * backbone.hidden_size

    @torch.no_grad()
    def forward(self, clips: Tensor | Sequence[np.ndarray | Tensor]) -> Tensor:
        """Features, float32 (B, 2H) on the encoder's device, of one batch of whole normalised recordings: a tensor
        (B, T, M, V, C) of clips of equal length, or arrays (T, M, V, C) of any lengths. Raises ValueError for other
        shapes."""
        device = next(self.parameters()).device
        if not isinstance(clips, Tensor):
            parts = [c if isinstance(c, Tensor) else torch.tensor(np.asarray(c)) for c in clips]
            for part in parts:
                self._check(part, "")
            if not parts:
                return torch.empty(0, self.feature_size, device=device)
            clips = torch.cat([resize(part[None].to(device, torch.float32)) for part in parts])
        self._check(clips, "B, ")
        return self.clip_encoder(clips.to(device, torch.float32))

    def _check(self, clips: Tensor, batch: str) -> None:
        shape = tuple(clips.shape)
        if shape[-3:] != self.layout.shape or len(shape) != 4 + bool(batch) or shape[-4] == 0:
            expected = ", ".join(map(str, self.layout.shape))
            raise ValueError(f"clips are ({batch}T, {expected}), frames of {self.layout}; these are {shape}")


def resize(clips: Tensor) -> Tensor:
    """Clips (B, T, M, V, C) linearly interpolated along time to 64 frames, as `feeder.clips.ResampleClip` does."""
    values = clips.flatten(2).transpose(1, 2)
    values = F.interpolate(values, size=NUM_FRAMES, mode="linear", align_corners=False)
    return values.transpose(1, 2).unflatten(2, clips.shape[2:])


def load_encoder(path: str | Path, modality: str = "all", device: str | torch.device = "auto") -> Encoder:
    """The frozen encoder of a checkpoint, of the last one in a run's folder, or of the weights that tools.slim makes.

    `modality`: `all` fuses those that it was pre-trained on, `joint` is one of them without fusion, `joint+bone`
    fuses some. `device`: `auto` is a GPU where there is one. Raises CheckpointError, and ValueError for a modality
    that the encoder does not have.
    """
    checkpoint = newest(Path(path))
    state = loading.load(checkpoint)
    backbone = loading.load_backbone(state, checkpoint)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = Encoder(backbone, modalities_of(modality, loading.modalities(state)))
    return encoder.to(device).eval().requires_grad_(False)

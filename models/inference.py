"""Use the frozen encoder as a library: normalised recordings in, features out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.raw.normalise import OFF_CENTRE, UNITS, fit_people, in_unit
from data_gen.raw.recording_files import as_bodies, check_values
from data_gen.skeletons import load_skeleton
from feeder.clips import NUM_FRAMES
from feeder.layout import FrameLayout
from feeder.modalities import ModalityTokens
from feeder.modality_names import Streams, streams_of
from models import loading
from models.encoder import Backbone


class ClipEncoder(nn.Module):
    """Map clips of any length, float32 (B, T, M, V, C), to the features of all streams, (B, streams·2H). One modality
    is encoded without fusion, several are fused. It can be traced, since it does tensor arithmetic only."""

    def __init__(self, backbone: Backbone, streams: Streams):
        super().__init__()
        self.backbone = backbone
        self.streams = streams
        self.tokens = ModalityTokens(backbone.layout)

    def forward(self, clips: Tensor) -> Tensor:
        clips = resize(clips)
        return torch.cat([self.backbone(self.tokens(clips, stream)) for stream in self.streams], 1)


def equalise(features: Tensor, streams: Streams) -> Tensor:
    """Scale the features of each of several streams, (N, streams·D), to the same length, √D. It suits the learning rate
    of the linear probe; cosines are the same for any."""
    if len(streams) == 1:
        return features
    parts = features.unflatten(1, (len(streams), -1))
    return (F.normalize(parts, dim=2) * parts.shape[2] ** 0.5).flatten(1)


class Encoder(nn.Module):
    """Compute features; `load_encoder` returns this class. `feature_size` is 2H, of an ensemble 2H for each stream;
    `modalities` are the ones it uses; `layout` holds people, joints and coordinates per frame, (2, 25, 3) for NTU;
    `takes_centred` is True if it was trained on people centred and aligned as by conversion."""

    def __init__(self, backbone: Backbone, streams: Streams, takes_centred: bool = True):
        super().__init__()
        self.clip_encoder = ClipEncoder(backbone, streams)
        self.modalities, self.layout = streams[0], backbone.layout
        self.feature_size, self.takes_centred = 2 * backbone.hidden_size * len(streams), takes_centred

    def prepare(self, recording: np.ndarray | Tensor, skeleton: str | None = None) -> np.ndarray:
        """Convert a raw recording to the encoder's input: float32 (T, M, V, C), centred and aligned, with the
        encoder's number of people and its joints.

        recording: (T, V, C) or (T, any number of people, V, C) with the joints of `skeleton` (a name or a file;
        default: the encoder's). A centred recording is not centred again. Raises ValueError if it does not fit.
        """
        layout = self.layout
        source = load_skeleton(skeleton) if skeleton else layout.skeleton
        bodies = check_values(as_bodies(np.asarray(recording), source))
        shape = layout.people, layout.coordinates
        people, found = fit_people(bodies, source, layout.skeleton, shape, self.takes_centred)
        for unit in UNITS.keys() & found:
            warnings.warn(in_unit(unit), stacklevel=2)
        return people

    @torch.no_grad()
    def forward(self, clips: Tensor | Sequence[np.ndarray | Tensor]) -> Tensor:
        """Compute features, float32 (B, feature_size) on the encoder's device, of one batch of whole normalised
        recordings: a tensor (B, T, M, V, C), or arrays (T, M, V, C) of any lengths. Raises ValueError for other shapes,
        and for people that are not centred if the encoder was trained on centred ones (see `prepare`)."""
        device = next(self.parameters()).device
        if not isinstance(clips, Tensor):
            parts = [c if isinstance(c, Tensor) else torch.tensor(np.asarray(c)) for c in clips]
            for part in parts:
                self._check(part[None], "")
            if not parts:
                return torch.empty(0, self.feature_size, device=device)
            clips = torch.cat([resize(part[None].to(device, torch.float32)) for part in parts])
        else:
            self._check(clips, "B, ")
        return equalise(self.clip_encoder(clips.to(device, torch.float32)), self.clip_encoder.streams)

    def _check(self, clips: Tensor, batch: str) -> None:
        if clips.shape[-3:] != self.layout.shape or clips.dim() != 5 or clips.shape[1] == 0:
            expected, shape = ", ".join(map(str, self.layout.shape)), tuple(clips.shape[not batch :])
            raise ValueError(f"clips are ({batch}T, {expected}), frames of {self.layout}; these are {shape}")
        if self.takes_centred and is_raw(clips, self.layout).any():
            centre = self.layout.skeleton.joints[self.layout.skeleton.centre or 0]
            raise ValueError(
                f"the first person's {centre} is not at the origin: the encoder takes people that are centred and "
                "aligned, which its method prepare() makes of a recording"
            )


def is_raw(clips: Tensor, layout: FrameLayout) -> Tensor:
    """Return which clips (B, T, M, V, C) are clearly not centred: bool (B,). In these, the centre of person 0 is away
    from the origin in every frame that shows the person."""
    if layout.skeleton.centre is None:
        return torch.zeros(len(clips), dtype=torch.bool, device=clips.device)
    person = clips[:, :, 0]
    shown = person.abs().flatten(2).amax(2) > 0
    distance = person[:, :, layout.skeleton.centre].abs().amax(2)
    nearest = torch.where(shown, distance, torch.inf).amin(1)
    return (nearest > OFF_CENTRE) & shown.any(1)


def resize(clips: Tensor) -> Tensor:
    """Interpolate clips (B, T, M, V, C) linearly in time to 64 frames, as `feeder.clips.ResampleClip` does."""
    values = clips.flatten(2).transpose(1, 2)
    values = F.interpolate(values, size=NUM_FRAMES, mode="linear", align_corners=False)
    return values.transpose(1, 2).unflatten(2, clips.shape[2:])


def load_encoder(path: str | Path, modality: str = "all", device: str | torch.device = "auto") -> Encoder:
    """Load the frozen encoder of a checkpoint, of the last checkpoint in a run's folder, or of tools.slim's weights.

    `modality`: `all` fuses all modalities of pre-training, `joint` is one without fusion, `joint+bone` fuses some,
    `ensemble` is the fused feature and each modality's own side by side, each scaled to the same length.
    `device`: `auto` is a GPU if available. Raises CheckpointError if it cannot be read, ValueError if the encoder does
    not have the modality.
    """
    checkpoint, state = loading.load_newest(Path(path))
    backbone = loading.load_backbone(state, checkpoint)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    takes_centred = loading.takes_centred(state, backbone.layout)
    encoder = Encoder(backbone, streams_of(modality, loading.modalities(state)), takes_centred)
    return encoder.to(device).eval().requires_grad_(False)

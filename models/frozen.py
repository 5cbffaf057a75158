"""The frozen encoder: recordings in, features out. Everything that uses a trained encoder uses this class."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.packed.reader import PackedDataset
from data_gen.raw.normalise import UNITS, check_values, fit_people, in_unit
from data_gen.raw.recording_files import npy_shape
from data_gen.skeletons import FrameLayout, has_mapping, load_skeleton
from feeder.clips import ClipDataset, ResampleClip, is_off_centre, resample
from feeder.modalities import MODALITIES, Stream, derive, name_of, streams_of
from models.checkpoints import CLASSIFIER, find_run, in_folder, load_encoder_of, load_newest, weights_hash
from models.encoder import Encoder
from utils.errors import UserError
from utils.logs import progress

BATCH_SIZE = 256
LARGEST = 1e15  # of a feature: products of two can be added up in float32
CENTRED, STANDARDISED = "centred", "standardised"  # variants of a representation


class FrozenEncoder(nn.Module):
    """An encoder in evaluation mode, with the streams whose features it computes.

    path, state: its checkpoint, and the checkpoint's contents but for weights and optimiser
    is_last: whether it was the run's last checkpoint when it was opened
    streams: the modalities of each stream; `feature_size` counts the values of all streams' features
    """

    encoder: Encoder
    parents: Tensor

    def __init__(self, encoder: Encoder, state: dict[str, Any], path: Path = Path(), modality: str = "all"):
        super().__init__()
        self.encoder = encoder
        self.path, self.is_last = path, True
        self.state = {key: value for key, value in state.items() if key not in ("state_dict", "optimizer")}
        self.streams = streams_of(modality, self.modalities)
        parents = torch.tensor(self.layout.skeleton.parents, device=next(encoder.parameters()).device)
        self.register_buffer("parents", parents, persistent=False)

    @classmethod
    def open(cls, pretrained: str | Path, device: torch.device, modality: str = "all") -> FrozenEncoder:
        """Load the encoder of a checkpoint, or of the last one of a run, given as in `find_run`. Raises UserError."""
        place = find_run(pretrained)
        path, state = load_newest(place)
        encoder = cls(load_encoder_of(state, path).requires_grad_(False), state, path, modality).eval().to(device)
        # A folder's checkpoint was the newest one when it was chosen; pre-training may have saved others since.
        checkpoints = [path] if place.is_dir() else in_folder(path.parent)
        encoder.is_last = (path in checkpoints[:1] or not checkpoints) and CLASSIFIER not in state
        return encoder

    @property
    def modalities(self) -> Stream:
        """The modalities that the encoder was trained on; of a fine-tuned one, those of fine-tuning."""
        return tuple(self.state.get("finetuned", {}).get("modalities", self.encoder.modalities))

    @property
    def layout(self) -> FrameLayout:
        """The people, joints and coordinates that the encoder takes."""
        return self.encoder.layout

    @property
    def modality(self) -> str:
        """The name of the streams, as in --modality."""
        return name_of(self.streams, self.modalities)

    @property
    def feature_size(self) -> int:
        return self.encoder.feature_size * len(self.streams)

    @property
    def device(self) -> torch.device:
        return self.parents.device

    @property
    def takes_centred(self) -> bool:
        """Whether the encoder was trained on people that are centred and aligned, as conversion makes them; older and
        published checkpoints, which do not say, were."""
        return self.layout.skeleton.centre is not None and self.state.get("centred", True)

    @cached_property
    def weights_hash(self) -> str:
        """The SHA-256 of the encoder's weights."""
        return self.state.get("weights_hash") or weights_hash(self.encoder)

    def select(self, modality: str) -> FrozenEncoder:
        """Return the same encoder with the streams that a name of --modality stands for."""
        other = copy(self)
        other.streams = streams_of(modality, self.modalities)
        return other

    def adapt(self, packed: PackedDataset) -> tuple[PackedDataset, str]:
        """Adapt a data set to the encoder's people and joints. Return it, and a note on what was done."""
        layout, note = packed.layout, ""
        every = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device("cpu"))
        if self.takes_centred and layout.skeleton.centre is not None and not every.is_centred():
            note = f"people in {packed.path} are not centred, as the encoder expects them: scores may suffer"
        if layout == self.layout:
            return packed, note
        check_layout(self, layout, packed.path)
        done = f"{layout} adapted to {self.layout}"
        return packed.adapted(self.layout.skeleton, self.layout.people), f"{done}; {note}" if note else done

    def prepare(self, recording: np.ndarray | Tensor, skeleton: str | None = None) -> np.ndarray:
        """Convert a raw recording to the encoder's input: float32 (T, M, V, C), centred and aligned, with the encoder's
        people and joints.

        recording: (T, V, C) or (T, any number of people, V, C) with the joints of `skeleton` (a name or a file;
        default: the encoder's). A centred recording is not centred again. Raises UserError if it does not fit.
        """
        layout = self.layout
        source = load_skeleton(skeleton) if skeleton else layout.skeleton
        array = np.asarray(recording)
        bodies = check_values(array.reshape(npy_shape(array.dtype, array.shape, source)))
        people, adaptations = fit_people(bodies, source, layout, self.takes_centred)
        for unit in UNITS.keys() & adaptations:
            warnings.warn(in_unit(unit), stacklevel=2)
        return people

    @torch.no_grad()
    def forward(self, clips: Tensor | Sequence[np.ndarray | Tensor]) -> Tensor:
        """Compute features, float32 (B, feature_size) on the encoder's device, of one batch of whole normalised
        recordings: a tensor (B, T, M, V, C), or arrays (T, M, V, C) of any lengths. Raises UserError for other shapes,
        and for people that are not centred if the encoder was trained on centred ones (see `prepare`)."""
        if isinstance(clips, Tensor):
            resampled = self._resample(clips)
        elif len(clips):
            arrays = [clip if isinstance(clip, Tensor) else torch.tensor(np.asarray(clip)) for clip in clips]
            resampled = torch.cat([self._resample(clip[None]) for clip in arrays])
        else:
            return torch.empty(0, self.feature_size, device=self.device)
        return normalise_streams(self.encode_joined(resampled), self.streams)

    def _resample(self, clips: Tensor) -> Tensor:
        layout = self.layout
        if clips.dim() != 5 or clips.shape[2:] != layout.shape or not clips.shape[1]:
            shape = ", ".join(map(str, layout.shape))
            raise UserError(f"clips are (B, T, {shape}), frames of {layout}; these are {tuple(clips.shape)}")
        if self.takes_centred and is_off_centre(clips, layout).any():
            raise UserError(
                "the first person is not centred at the origin, as the encoder expects: convert recordings with the "
                "encoder's method prepare()"
            )
        return resample(clips.to(self.device, torch.float32))

    def encode(self, clips: Tensor, streams: Sequence[Stream]) -> list[Tensor]:
        """Compute each stream's features of resampled clips, float32 (B, 64, M, V, C): (B, encoder.feature_size)."""
        used = [m for m in MODALITIES if any(m in stream for stream in streams)]
        derived = derive(clips, used, self.parents)
        return [self.encoder({m: derived[m] for m in stream}) for stream in streams]

    def encode_joined(self, clips: Tensor) -> Tensor:
        """Compute the encoder's streams' features of resampled clips, concatenated: (B, feature_size)."""
        return torch.cat(self.encode(clips, self.streams), 1)

    @torch.no_grad()
    def features(self, source: ClipDataset, streams: Sequence[Stream] = (), title: str = "features") -> list[Tensor]:
        """Compute features of whole recordings, without augmentation, in one pass: for each stream (default: the
        encoder's) float32 (N, encoder.feature_size) on its device. Raises UserError if some are not finite."""
        streams = streams or self.streams
        results = [torch.empty(len(source), self.encoder.feature_size, device=self.device) for _ in streams]
        starts: Iterable[int] = range(0, len(source), BATCH_SIZE)
        if len(source) > BATCH_SIZE:
            starts = progress(starts, desc=title, unit="batch", total=-(-len(source) // BATCH_SIZE))
        for start in starts:
            batch = slice(start, min(start + BATCH_SIZE, len(source)))
            clips = ResampleClip()(source.windows(batch)).to(self.device, non_blocking=True)
            for result, feature in zip(results, self.encode(clips, streams)):
                result[batch] = feature
        if not all(bool((result.abs() < LARGEST).all()) for result in results):
            raise UserError(f"{self.path}: features are not finite, as the weights or the coordinates are too large")
        return results


def load_encoder(path: str | Path, modality: str = "all", device: str | torch.device = "auto") -> FrozenEncoder:
    """Load the frozen encoder of a checkpoint, of the last one in a run's folder, or of exported weights.

    `modality`: `all` fuses all modalities of pre-training, `joint` is one without fusion, `joint+bone` fuses some,
    `ensemble` is the fused feature and each modality's own side by side, each scaled to the same length. `device`:
    `auto` is a GPU if available. Raises UserError if it cannot be read, or does not have the modality.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return FrozenEncoder.open(path, torch.device(device), modality)


def check_layout(encoder: FrozenEncoder, layout: FrameLayout, place: object) -> None:
    """Raise UserError if the encoder cannot take people of this layout, even with their joints mapped."""
    own = encoder.layout
    if own.coordinates != layout.coordinates or not has_mapping(layout.skeleton, own.skeleton):
        differing = ", defined in another way" if str(own) == str(layout) else ""
        raise UserError(f"{place}: holds {layout}{differing}; {encoder.path} was trained on {own}")


def normalise_streams(features: Tensor, streams: Sequence[Stream]) -> Tensor:
    """Scale the features of each of several streams, (N, streams·D), to the same length, √D. It suits the learning rate
    of the linear probe; cosines are the same for any."""
    if len(streams) == 1:
        return features
    parts = features.unflatten(1, (len(streams), -1))
    return (F.normalize(parts, dim=2) * parts.shape[2] ** 0.5).flatten(1)


@dataclass(frozen=True)
class Representation:
    """Transform the features of a `modality`'s streams for comparison or classification, by a `variant`:

    ''            as they are (published)
    centred       minus the mean over the train split or gallery
    standardised  the same, and each dimension divided by its standard deviation there

    Features of several streams are scaled to one length after that. `mean` and `scale` are float32 (streams·D,).
    """

    modality: str
    streams: tuple[Stream, ...]
    variant: str = ""
    mean: Tensor | None = None
    scale: Tensor | None = None

    @classmethod
    def fit(cls, encoder: FrozenEncoder, variant: str, features: Tensor) -> Representation:
        """Fit a representation to features (N, streams·D) of the train split or gallery."""
        if not variant:
            return cls(encoder.modality, encoder.streams)
        mean, deviation = features.mean(0), features.std(0, correction=0)
        # A dimension without variation distinguishes no recordings.
        scale = torch.where(deviation > 0, 1 / deviation, 0.0) if variant == STANDARDISED else torch.ones_like(mean)
        return cls(encoder.modality, encoder.streams, variant, mean, scale)

    @property
    def name(self) -> str:
        """Its name in results: all, all_centred, ..."""
        return f"{self.modality}_{self.variant}" if self.variant else self.modality

    def tensors(self) -> dict[str, Tensor]:
        """Return `mean` and `scale`, if it has them."""
        return {} if self.mean is None or self.scale is None else {"mean": self.mean, "scale": self.scale}

    def __call__(self, features: Tensor) -> Tensor:
        """Transform features (N, streams·D), the streams concatenated, to the same shape."""
        if self.mean is not None and self.scale is not None:
            features = (features - self.mean) * self.scale
        return normalise_streams(features, self.streams)

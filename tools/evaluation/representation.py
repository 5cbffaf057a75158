"""What is compared or classified: an encoder's features, plain as published, or changed by choice.

all, joint, ...   the feature of one stream
ensemble          the fused feature and each modality's own side by side, each of the same length
..._centred       minus the mean of the recordings that are trained on or searched
..._standardised  the same, and each dimension divided by its deviation among them
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.utils.encoder_options import STANDARDISED

Stream = tuple[str, ...]  # the modalities that one feature is made of
Streams = tuple[Stream, ...]


@dataclass(frozen=True)
class Representation:
    """A map of the features of some streams: a `variant` ('' for the plain one) of what the name of a `modality` stands
    for. `mean` and `scale` are float32 (streams·D,), None in plain ones."""

    modality: str
    streams: Streams
    variant: str = ""
    mean: Tensor | None = None
    scale: Tensor | None = None

    @classmethod
    def fit(cls, modality: str, streams: Streams, variant: str, features: Tensor) -> Representation:
        """Make one by the features (N, streams·D) of the recordings that are trained on or searched."""
        if not variant:
            return cls(modality, streams)
        mean, deviation = features.mean(0), features.std(0, correction=0)
        # A dimension in which all recordings are alike tells none apart.
        scale = torch.where(deviation > 0, 1 / deviation, 0.0) if variant == STANDARDISED else torch.ones_like(mean)
        return cls(modality, streams, variant, mean, scale)

    @property
    def name(self) -> str:
        """Its name in results and file names: all, all_centred, ..."""
        return f"{self.modality}_{self.variant}" if self.variant else self.modality

    def tensors(self) -> dict[str, Tensor]:
        """`mean` and `scale`, where there are any."""
        return {} if self.mean is None or self.scale is None else {"mean": self.mean, "scale": self.scale}

    def __call__(self, features: Tensor) -> Tensor:
        """Map features (N, streams·D), those of each stream side by side, to what is compared: the same shape."""
        if self.mean is not None and self.scale is not None:
            features = (features - self.mean) * self.scale
        if len(self.streams) == 1:
            return features
        # Cosines are the same for any common length; this one suits the learning rate of the linear probe.
        parts = features.unflatten(1, (len(self.streams), -1))
        return (F.normalize(parts, dim=2) * parts.shape[2] ** 0.5).flatten(1)

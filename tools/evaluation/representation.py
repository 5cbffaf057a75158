"""Represent recordings for comparison or classification: by features, plain as published, or transformed.

all, joint, ...   the feature of one stream
ensemble          the fused feature and each modality's own, concatenated, each scaled to the same length
..._centred       minus the mean over the train side or gallery
..._standardised  the same, and each dimension divided by its standard deviation there
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from feeder.modality_names import Streams
from models.inference import equalise
from tools.utils.encoder_options import STANDARDISED


@dataclass(frozen=True)
class Representation:
    """Transform the features of a `modality`'s streams, by a `variant` ('': plain). `mean` and `scale` are float32
    (streams·D,), None if plain."""

    modality: str
    streams: Streams
    variant: str = ""
    mean: Tensor | None = None
    scale: Tensor | None = None

    @classmethod
    def fit(cls, modality: str, streams: Streams, variant: str, features: Tensor) -> Representation:
        """Fit a representation to features (N, streams·D) of the train side or gallery."""
        if not variant:
            return cls(modality, streams)
        mean, deviation = features.mean(0), features.std(0, correction=0)
        # A dimension without variation distinguishes no recordings.
        scale = torch.where(deviation > 0, 1 / deviation, 0.0) if variant == STANDARDISED else torch.ones_like(mean)
        return cls(modality, streams, variant, mean, scale)

    @property
    def name(self) -> str:
        """Return its name in results and file names: all, all_centred, ..."""
        return f"{self.modality}_{self.variant}" if self.variant else self.modality

    def tensors(self) -> dict[str, Tensor]:
        """Return `mean` and `scale`, those that are not None."""
        return {} if self.mean is None or self.scale is None else {"mean": self.mean, "scale": self.scale}

    def __call__(self, features: Tensor) -> Tensor:
        """Transform features (N, streams·D), the streams concatenated, to the same shape."""
        if self.mean is not None and self.scale is not None:
            features = (features - self.mean) * self.scale
        return equalise(features, self.streams)

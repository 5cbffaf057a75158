"""The augmentations of pre-training (docs/method.md, 3), as torchvision v2 transforms of `ClipBatch`."""

from __future__ import annotations

from typing import Any

import torch
from torchvision.transforms import v2

from feeder.clips import NUM_FRAMES, ClipBatch, ResampleClip


class RandomTemporalCrop(v2.Transform):
    """A random window of r·n frames, r ~ U(min_ratio, 1), but at least `min_length` of them where there are."""

    _transformed_types = (ClipBatch,)

    def __init__(self, min_ratio: float = 0.1, min_length: int = NUM_FRAMES):
        super().__init__()
        self.min_ratio, self.min_length = min_ratio, min_length

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        clips = flat_inputs[0]
        size, place = clips.random.uniform(2).unbind(-1)
        ratio = self.min_ratio + (1 - self.min_ratio) * size
        length = torch.minimum((ratio * clips.length).long().clamp(min=self.min_length), clips.length)
        places = clips.length - length + 1
        # The product can round up to `places` itself.
        start = torch.minimum((place * places).long(), places - 1)
        return {"start": start, "length": length}

    def transform(self, inpt: ClipBatch, params: dict[str, Any]) -> ClipBatch:
        return inpt.window(params["start"], params["length"])


class RandomPoseAugmentation(v2.Transform):
    """One spatial augmentation a clip, each of them a linear map per joint.

    With probability `shear` every joint is sheared by one matrix (unit diagonal, U(−1, 1) elsewhere); otherwise
    a `share` of the joints (15 of 25), the same in all frames and for all people, are set to zero or multiplied by
    one matrix of U(−1, 1), equally often.
    """

    _transformed_types = (ClipBatch,)

    def __init__(self, shear: float = 0.5, share: float = 0.6):
        super().__init__()
        self.shear, self.share = shear, share

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        random, (_, joints, coordinates) = flat_inputs[0].random, flat_inputs[0].shape
        kind = random.uniform()[:, None, None, None]
        matrix = (2 * random.uniform(coordinates, coordinates) - 1)[:, None]
        # Stable, so that equal numbers have one order on every device.
        permutation = random.uniform(joints).argsort(dim=-1, stable=True)
        chosen = (permutation < round(self.share * joints))[:, :, None, None]
        identity = torch.eye(coordinates, device=matrix.device)
        shear = torch.where(identity.bool(), identity, matrix)
        is_mask = kind < (1 + self.shear) / 2
        some = torch.where(chosen, torch.where(is_mask, 0.0, matrix), identity)
        return {"joint_map": torch.where(kind < self.shear, shear, some)}

    def transform(self, inpt: ClipBatch, params: dict[str, Any]) -> ClipBatch:
        return inpt.map_joints(params["joint_map"])


def training_view() -> v2.Compose:
    """One augmented view of each clip: ClipBatch with its `random` → float32 (B, 64, M, V, C)."""
    return v2.Compose([RandomTemporalCrop(), RandomPoseAugmentation(), ResampleClip()])


def evaluation_view() -> v2.Compose:
    """The whole clip, without randomness: ClipBatch → float32 (B, 64, M, V, C)."""
    return v2.Compose([ResampleClip()])

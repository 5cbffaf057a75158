"""The augmentations of pre-training (docs/method.md, 3), as torchvision v2 transforms of `ClipBatch`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
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
        random, (_, joints, coordinates) = flat_inputs[0].random, flat_inputs[0].layout.shape
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


class RandomMirror(v2.Transform):
    """With probability `p`, left and right exchanged: x negated, and each joint in its counterpart's place.

    Not part of the published recipe. It needs resampled clips, so it stands behind ResampleClip. Raises ValueError for
    a skeleton that does not tell left from right.
    """

    _transformed_types = (ClipBatch,)

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"is_mirrored": flat_inputs[0].random.uniform(1, 1, 1, 1) < self.p}

    def transform(self, inpt: ClipBatch, params: dict[str, Any]) -> ClipBatch:
        values = inpt.values
        # Joints one by one: a list of them as an index would be copied to the GPU, which waits for that.
        mirrored = torch.stack([values[..., joint, :] for joint in inpt.layout.skeleton.mirrored()], dim=-2)
        mirrored[..., 0].neg_()
        return inpt.with_values(torch.where(params["is_mirrored"], mirrored, values))


class View(v2.Compose):
    """Transforms of ClipBatch, one after the other: ClipBatch → float32 (B, T, M, V, C).

    Its text (`repr`) names them all with their parameters. Raises TypeError for a transform that torchvision would pass
    the clips by, and for one that returns something else.
    """

    def __init__(self, *transforms: nn.Module):
        super().__init__(transforms)
        for transform in transforms:
            types = getattr(transform, "_transformed_types", (ClipBatch,))
            if not any(isinstance(kind, type) and issubclass(ClipBatch, kind) for kind in types):
                raise TypeError(f"{transform} would not be called: it lacks `_transformed_types = (ClipBatch,)`")

    def forward(self, clips: ClipBatch) -> Tensor:
        for transform in self.transforms:
            clips = transform(clips)
            if not isinstance(clips, ClipBatch):
                raise TypeError(f"{transform} returns a {type(clips).__name__}, not a ClipBatch")
        return clips.values


def training_view() -> View:
    """One augmented view of each clip: ClipBatch with its `random` → float32 (B, 64, M, V, C).

    Others are added here: what cuts clips before `ResampleClip`, what changes their values behind it.
    """
    return View(RandomTemporalCrop(), RandomPoseAugmentation(), ResampleClip())

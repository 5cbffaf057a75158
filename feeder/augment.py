"""The augmentations of pre-training (docs/method.md, 3), as torchvision v2 transforms of `ClipBatch`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from feeder.clips import NUM_FRAMES, ClipBatch, ResampleClip


class RandomTemporalCrop(v2.Transform):
    """Cut a random window of r·n frames, r ~ U(min_ratio, 1), but at least `min_length` (or all n) of them."""

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
        # In float32 the product can round up to `places`.
        start = torch.minimum((place * places).long(), places - 1)
        return {"start": start, "length": length}

    def transform(self, inpt: ClipBatch, params: dict[str, Any]) -> ClipBatch:
        return inpt.window(params["start"], params["length"])


class RandomPoseAugmentation(v2.Transform):
    """Apply one of three spatial augmentations to each clip, a linear map per joint.

    With probability `shear` all joints are sheared by one matrix (unit diagonal, U(−1, 1) elsewhere). Otherwise a
    `share` of the joints (15 of 25) is set to zero or multiplied by one matrix of U(−1, 1), with equal probability;
    these joints are the same in all frames and for all people.
    """

    _transformed_types = (ClipBatch,)

    def __init__(self, shear: float = 0.5, share: float = 0.6):
        super().__init__()
        self.shear, self.share = shear, share

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        random, (_, joints, coordinates) = flat_inputs[0].random, flat_inputs[0].layout.shape
        kind = random.uniform()[:, None, None, None]
        matrix = (2 * random.uniform(coordinates, coordinates) - 1)[:, None]
        # Stable: equal numbers get the same order on every device.
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
    """Swap left and right with probability `p`: negate x and exchange each joint with its counterpart.

    Not part of the published recipe. Place it after ResampleClip. Raises ValueError for a skeleton without left and
    right joints.
    """

    _transformed_types = (ClipBatch,)

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"is_mirrored": flat_inputs[0].random.uniform(1, 1, 1, 1) < self.p}

    def transform(self, inpt: ClipBatch, params: dict[str, Any]) -> ClipBatch:
        values = inpt.values
        # Joint by joint: a list as an index would be copied to the GPU, which waits for it.
        mirrored = torch.stack([values[..., joint, :] for joint in inpt.layout.skeleton.mirrored()], dim=-2)
        mirrored[..., 0].neg_()
        return inpt.with_values(torch.where(params["is_mirrored"], mirrored, values))


class View(v2.Compose):
    """Apply transforms of ClipBatch in order: ClipBatch → float32 (B, T, M, V, C).

    `repr` lists them with their parameters. Raises TypeError for a transform that torchvision would not call on a
    ClipBatch, and for one that returns something else.
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
    """Make the transform that draws one augmented view of each clip: ClipBatch with `random` → float32
    (B, 64, M, V, C).

    Add transforms here: before `ResampleClip` if they cut clips, after it if they change values.
    """
    return View(RandomTemporalCrop(), RandomPoseAugmentation(), ResampleClip())

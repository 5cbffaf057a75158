"""The augmentations of pre-training (docs/method.md, 3), and the registry that --augment reads.

An augmentation is a module. Before `ResampleClip` it takes and returns `Windows`: it cuts them or maps their joints.
After it, it takes and returns clips, float32 (B, T, M, V, C). Both take random numbers only from the source they are
given, so that a run can be repeated and resumed, whatever the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from data_gen.skeletons import FrameLayout
from feeder.clips import NUM_FRAMES, ResampleClip, Windows
from feeder.sampling import ViewRandom
from utils.errors import UserError


class RandomTemporalCrop(nn.Module):
    """Cut a random window of r·n frames, r ~ U(min_ratio, 1), but at least `min_length` (or all n) of them."""

    def __init__(self, min_ratio: float = 0.1, min_length: int = NUM_FRAMES):
        super().__init__()
        self.min_ratio, self.min_length = min_ratio, min_length

    def extra_repr(self) -> str:
        return f"min_ratio={self.min_ratio}, min_length={self.min_length}"

    def forward(self, windows: Windows, random: ViewRandom) -> Windows:
        size, place = random.uniform(2).unbind(-1)
        ratio = self.min_ratio + (1 - self.min_ratio) * size
        length = torch.minimum((ratio * windows.length).long().clamp(min=self.min_length), windows.length)
        places = windows.length - length + 1
        # In float32 the product can round up to `places`.
        return windows.cut(torch.minimum((place * places).long(), places - 1), length)


class RandomPoseAugmentation(nn.Module):
    """Apply one of three spatial augmentations to each clip, a linear map per joint.

    With probability `shear` all joints are sheared by one matrix (unit diagonal, U(−1, 1) elsewhere). Otherwise a
    `share` of the joints (15 of 25) is set to zero or multiplied by one matrix of U(−1, 1), with equal probability;
    these joints are the same in all frames and for all people.
    """

    def __init__(self, shear: float = 0.5, share: float = 0.6):
        super().__init__()
        self.shear, self.share = shear, share

    def extra_repr(self) -> str:
        return f"shear={self.shear}, share={self.share}"

    def forward(self, windows: Windows, random: ViewRandom) -> Windows:
        _, joints, coordinates = windows.shape
        kind = random.uniform()[:, None, None, None]
        matrix = (2 * random.uniform(coordinates, coordinates) - 1)[:, None]
        # Stable: equal numbers get the same order on every device.
        permutation = random.uniform(joints).argsort(dim=-1, stable=True)
        chosen = (permutation < round(self.share * joints))[:, :, None, None]
        identity = torch.eye(coordinates, device=matrix.device)
        shear = torch.where(identity.bool(), identity, matrix)
        is_mask = kind < (1 + self.shear) / 2
        some = torch.where(chosen, torch.where(is_mask, 0.0, matrix), identity)
        return windows.map_joints(torch.where(kind < self.shear, shear, some))


class RandomMirror(nn.Module):
    """Swap left and right with probability `p`: negate x and exchange each joint with its counterpart. After
    `ResampleClip`; not part of the published recipe. The skeleton's joints need names with left and right."""

    def __init__(self, layout: FrameLayout, p: float = 0.5):
        super().__init__()
        self.counterparts, self.p = layout.skeleton.mirrored(), p

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, clips: Tensor, random: ViewRandom) -> Tensor:
        # Joint by joint: a list as an index would be copied to the GPU, which waits for it.
        mirrored = torch.stack([clips[..., joint, :] for joint in self.counterparts], dim=-2)
        mirrored[..., 0].neg_()
        return torch.where(random.uniform(1, 1, 1, 1) < self.p, mirrored, clips)


class View(v2.Compose):
    """Draw one augmented view of each window: Windows → float32 (B, T, M, V, C). `repr` lists the augmentations."""

    def forward(self, windows: Windows, random: ViewRandom) -> Tensor:
        clips: Any = windows
        for transform in self.transforms:
            clips = transform(clips, random)
        return clips


def published(layout: FrameLayout) -> list[nn.Module]:
    """Make the paper's augmentations."""
    return [RandomTemporalCrop(), RandomPoseAugmentation(), ResampleClip()]


def mirror(layout: FrameLayout) -> list[nn.Module]:
    """Make the paper's augmentations, then mirror every second clip."""
    return [*published(layout), RandomMirror(layout)]


# --augment: name → function of the frames' layout that makes the augmentations in order.
AUGMENTATIONS: dict[str, Callable[[FrameLayout], list[nn.Module]]] = {"published": published, "mirror": mirror}


def make_view(name: str, layout: FrameLayout) -> View:
    """Make the view called `name`. Raises UserError for an unknown name, and if the skeleton does not suit it."""
    if name not in AUGMENTATIONS:
        raise UserError(f"--augment {name}: no such augmentation; there are {', '.join(AUGMENTATIONS)}")
    try:
        return View(AUGMENTATIONS[name](layout))
    except ValueError as error:
        raise UserError(f"--augment {name}: {error}") from error

"""A spatial-temporal graph convolutional network (after Yan, Xiong, Lin, AAAI 2018) on any skeleton's bones, as another
encoder: `--encoder stgcn`. docs/encoders.md has the contract."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.skeletons import FrameLayout
from models.encoder import Encoder

KERNEL = 9  # frames of a temporal convolution
STRIDES = (1, 1, 2, 1, 2, 1)  # of the blocks, along time


def adjacency(parents: Sequence[int]) -> Tensor:
    """Return how joints take from themselves, their parent, and the mean of their children: float32 (3, V, V)."""
    joints = len(parents)
    to_parent = torch.zeros(joints, joints)
    for joint, parent in enumerate(parents):
        to_parent[joint, parent] = float(joint != parent)
    to_children = to_parent.T / to_parent.T.sum(1, keepdim=True).clamp(min=1)
    return torch.stack((torch.eye(joints), to_parent, to_children))


class ClipNorm(nn.GroupNorm):
    """Normalise each clip over channels, frames and joints. Compiled by PyTorch 2.14.1 for a CPU, nn.GroupNorm's own
    forward changed a loss by more than 1e-3."""

    def __init__(self, channels: int):
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[1:], eps=self.eps) * self.weight[:, None, None] + self.bias[:, None, None]


class Block(nn.Module):
    """Convolve along bones, then along time, with a residual: (B, C, T, V) → (B, C', T / stride, V)."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.spatial = nn.Conv2d(channels, 3 * out, 1)
        self.norm = ClipNorm(out)
        self.temporal = nn.Conv2d(out, out, (KERNEL, 1), (stride, 1), (KERNEL // 2, 0))
        self.last_norm = ClipNorm(out)
        same = channels == out and stride == 1
        self.residual: nn.Module = nn.Identity() if same else nn.Conv2d(channels, out, 1, (stride, 1))

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        neighbours = self.spatial(x).unflatten(1, (3, -1))
        mixed = F.relu(self.norm(torch.einsum("bkctv,kwv->bctw", neighbours, graph)))
        return F.relu(self.last_norm(self.temporal(mixed)) + self.residual(x))


class STGCN(Encoder):
    """Encode modalities of clips to features of `hidden_size`.

    Each modality has a first convolution of its own; several are fused by their mean before the blocks, which all
    share. Group norm takes the place of batch norm, so that a clip's feature depends on the clip alone.
    """

    graph: Tensor

    def __init__(self, hidden_size: int, modalities: Sequence[str], layout: FrameLayout):
        super().__init__()
        self.modalities, self.layout, self.feature_size = tuple(modalities), layout, hidden_size
        self.register_buffer("graph", adjacency(layout.skeleton.parents), persistent=False)
        narrow, middle = max(1, hidden_size // 4), max(1, hidden_size // 2)
        widths = [narrow, narrow, narrow, middle, middle, hidden_size, hidden_size]
        self.stems = nn.ModuleDict({m: nn.Conv2d(layout.coordinates, narrow, 1) for m in modalities})
        self.blocks = nn.ModuleList(map(Block, widths, widths[1:], STRIDES))

    def forward(self, clips: dict[str, Tensor]) -> Tensor:
        """Encode one modality alone or several, each float32 (B, T, M, V, C): (B, feature_size)."""
        return self.frame_features(clips).mean(1)

    def frame_features(self, clips: dict[str, Tensor]) -> Tensor:
        """Encode frames, every fourth: (B, T / 4, feature_size), the mean over people and joints."""
        people = next(iter(clips.values())).shape[2]
        # (B, T, M, V, C) → (B·M, C, T, V)
        stems = [self.stems[m](clip.permute(0, 2, 4, 1, 3).flatten(0, 1)) for m, clip in clips.items()]
        x = torch.stack(stems).mean(0)
        for block in self.blocks:
            x = block(x, self.graph)
        return x.unflatten(0, (-1, people)).mean((1, 4)).mT

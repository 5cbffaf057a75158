"""Clips: windows of a packed data set's frames, resampled to a fixed length."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.packed.reader import PackedDataset
from data_gen.raw.normalise import OFF_CENTRE
from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.sampling import ViewRandom

NUM_FRAMES = 64
# Clips resampled at a time on a CPU, so few that their frames stay in its cache.
_CPU_CHUNK = 64


@dataclass(frozen=True)
class ClipBatch:
    """B clips, as windows of frames. A transform takes a batch and returns a new one. All tensors are on one device.

    frames: float32 (F, M·V·C), those of the whole data set; after resampling, the clips themselves, end to end
    first, length: int64 (B,), each clip's window in `frames`
    random: source of the augmentations' random numbers
    joint_map: float32 (B, V, C, C), map S of every joint x to S·x, which resampling applies; None: no map
    layout: what a frame holds
    num_frames: length of every clip after resampling; None before
    """

    frames: Tensor
    first: Tensor
    length: Tensor
    random: ViewRandom | None = None
    joint_map: Tensor | None = None
    layout: FrameLayout = NTU_LAYOUT
    num_frames: int | None = None

    def __len__(self) -> int:
        return len(self.first)

    @property
    def values(self) -> Tensor:
        """Return the resampled clips, float32 (B, T, M, V, C). Raises ValueError before resampling."""
        if self.num_frames is None:
            raise ValueError("the clips are not resampled: place ResampleClip() before what needs their values")
        return self.frames.view(len(self), self.num_frames, *self.layout.shape)

    def with_values(self, values: Tensor) -> ClipBatch:
        """Replace the clips' values by others, float32 (B, T, M, V, C)."""
        size, num_frames = values.shape[:2]
        first = torch.arange(0, size * num_frames, num_frames, device=values.device)
        return replace(
            self,
            frames=values.flatten(2).flatten(0, 1),  # works for zero clips, unlike view(-1, ...)
            first=first,
            length=torch.full_like(first, num_frames),
            joint_map=None,
            num_frames=num_frames,
        )

    def window(self, start: Tensor, length: Tensor) -> ClipBatch:
        """Cut the clips to `length` frames from `start`, both int64 (B,), counted within the current window."""
        return replace(self, first=self.first + start, length=length, num_frames=None)

    def map_joints(self, joint_map: Tensor) -> ClipBatch:
        """Apply the linear map (B, V, C, C) to each joint, after earlier maps."""
        if self.num_frames is not None:
            mapped = torch.empty_like(self.values)
            _map_joints(self.values, joint_map, out=mapped)
            return self.with_values(mapped)
        return replace(self, joint_map=joint_map if self.joint_map is None else joint_map @ self.joint_map)


class ClipDataset:
    """Recordings from which clips are taken, all tensors on one device.

    frames: float32 (F, M·V·C), all recordings' frames end to end
    first, num_frame, label: int64 (N,), each recording's first frame, length and class
    layout: what a frame holds
    """

    def __init__(
        self,
        frames: Tensor,
        num_frame: np.ndarray,
        label: np.ndarray,
        first: np.ndarray | None = None,
        layout: FrameLayout = NTU_LAYOUT,
    ):
        """Take `frames` (F, M, V, C); without `first`, the N recordings fill them in order. Raises ValueError for
        frames of another layout."""
        if frames.shape[1:] != layout.shape:
            raise ValueError(f"frames of the shape {tuple(frames.shape[1:])}, expected {layout.shape}")
        self.layout = layout
        self.frames = frames.flatten(1)
        first = np.cumsum(num_frame) - num_frame if first is None else first
        self.first, self.num_frame, self.label = (
            torch.from_numpy(a).to(frames.device) for a in (first, num_frame, label)
        )

    def fingerprint(self) -> str:
        """Hash lengths, labels and one frame each of up to 1,024 recordings; equal for the same recordings."""
        chosen = torch.arange(min(len(self), 1024), device=self.device) * len(self) // min(len(self), 1024)
        sampled = self.frames[(self.first + self.num_frame // 2)[chosen]]
        digest = hashlib.sha256()
        for values in (self.num_frame, self.label, sampled):
            digest.update(values.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def is_centred(self) -> bool:
        """Tell whether the skeleton's centre of person 0 is at the origin in the first frames of at most 1,024
        recordings."""
        if self.layout.skeleton.centre is None:
            return False
        first = self.frames[self.first[:1024]].unflatten(1, self.layout.shape)
        return bool(first[:, 0, self.layout.skeleton.centre].abs().max() <= OFF_CENTRE)

    @classmethod
    def of_dataset(cls, dataset: PackedDataset, indices: np.ndarray, device: torch.device) -> ClipDataset:
        """Open the recordings at `indices` of a packed data set.

        On a GPU the frames are copied there once if they fit into half of its free memory. Otherwise, and on a CPU,
        they are memory-mapped, and clips are resampled on the CPU.
        """
        with warnings.catch_warnings():
            # Nothing writes, and a writable mapping would reserve memory for the whole file.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            frames = torch.from_numpy(dataset.joints)
        if device.type == "cuda" and dataset.joints.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
            frames = frames.to(device)
        rows = dataset.num_frame[indices], dataset.label[indices], dataset.first[indices]
        return cls(frames, *rows, FrameLayout.of_dataset(dataset))

    @classmethod
    def joined(cls, parts: Sequence[ClipDataset]) -> ClipDataset:
        """Concatenate data sets of one layout and device; on a CPU this copies their frames into memory."""
        if len(parts) == 1:
            return parts[0]
        layout = parts[0].layout
        frames = torch.cat([part.frames for part in parts]).view(-1, *layout.shape)
        offsets = np.cumsum([0] + [len(part.frames) for part in parts[:-1]])
        first = [part.first.cpu().numpy() + offset for part, offset in zip(parts, offsets)]
        num_frame, label = ([getattr(part, name).cpu().numpy() for part in parts] for name in ("num_frame", "label"))
        return cls(frames, np.concatenate(num_frame), np.concatenate(label), np.concatenate(first), layout)

    def others(self, dataset: PackedDataset, indices: np.ndarray) -> ClipDataset:
        """Select the recordings at `indices` of the packed data set that this one was made from; frames are shared."""
        rows = dataset.num_frame[indices], dataset.label[indices], dataset.first[indices]
        return ClipDataset(self.frames.view(-1, *self.layout.shape), *rows, self.layout)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def device(self) -> torch.device:
        return self.frames.device

    def first_part(self, share: float) -> ClipDataset:
        """Cut each recording to its first `share` of frames, rounded up. They stay normalised as a whole."""
        part = copy(self)
        part.num_frame = (self.num_frame * share).ceil().long().clamp(min=1)
        return part

    def clips(self, rows: Tensor | slice) -> ClipBatch:
        """Return the recordings at `rows` as whole clips, not resampled."""
        return ClipBatch(self.frames, self.first[rows], self.num_frame[rows], layout=self.layout)

    def views(self, rows: Tensor, count: int, seed: int, epoch: int) -> ClipBatch:
        """Return `count` clips of each recording at `rows`, int64 (R,) on this device, to be augmented independently:
        all first views, then all second ones, and so on."""
        clips = self.clips(rows.repeat(count))
        return replace(clips, random=ViewRandom.of_views(seed, epoch, rows, count))


class ResampleClip(nn.Module):
    """Resample clips to `num_frames`: interpolate each window linearly along time (half-pixel centres, edges clamped),
    then apply its joint map (docs/method.md, 3). Both are linear, so their order does not matter."""

    def __init__(self, num_frames: int = NUM_FRAMES):
        super().__init__()
        self.num_frames = num_frames

    def extra_repr(self) -> str:
        return f"num_frames={self.num_frames}"

    def forward(self, clips: ClipBatch) -> ClipBatch:
        device = clips.frames.device
        chunk = _CPU_CHUNK if device.type == "cpu" else max(1, len(clips))
        result = torch.empty(len(clips), self.num_frames, *clips.layout.shape, device=device)
        for start in range(0, len(clips), chunk):
            part = slice(start, start + chunk)
            resized = _resize(clips.frames, clips.first[part], clips.length[part], self.num_frames)
            resized = resized.unflatten(-1, clips.layout.shape)
            if clips.joint_map is None:
                result[part] = resized
            else:
                _map_joints(resized, clips.joint_map[part], out=result[part])
        return clips.with_values(result)


def evaluation_view(clips: ClipBatch) -> Tensor:
    """Resample whole clips, without randomness: ClipBatch → float32 (B, 64, M, V, C)."""
    return ResampleClip()(clips).values


def _resize(frames: Tensor, first: Tensor, length: Tensor, num_frames: int) -> Tensor:
    """Interpolate the windows first, length (B,) of frames (F, D): (B, num_frames, D)."""
    step = torch.arange(num_frames, device=frames.device) + 0.5
    position = (step * (length / num_frames)[:, None] - 0.5).clamp_(min=0)
    low = position.long()
    weight = position - low
    high = torch.minimum(low + 1, length[:, None] - 1)
    frame = (torch.stack((low, high), -1) + first[:, None, None]).view(-1, 2)
    weights = torch.stack((1 - weight, weight), -1).view(-1, 2)
    # A bag is two frames and their weights: this gathers and interpolates in one pass over memory.
    resized = F.embedding_bag(frame, frames, per_sample_weights=weights, mode="sum")
    return resized.view(len(first), num_frames, -1)


def _map_joints(clips: Tensor, joint_map: Tensor, out: Tensor) -> None:
    """Set out[b, t, m, v] = joint_map[b, v] @ clips[b, t, m, v].

    For all values of a frame, the maps form one block-diagonal matrix. Blocks of 3×3 have five diagonals (2×2: three),
    so five multiply-adds along whole rows compute it. Many products of 3×3 matrices are several times slower.
    """
    x, y = clips.flatten(2), out.flatten(2)
    people, size = clips.shape[2], joint_map.shape[-1]
    padded = F.pad(joint_map, (size - 1, size - 1))

    def diagonal(shift: int) -> Tensor:
        entry = padded[..., shift + size - 1 : shift + 2 * size - 1].diagonal(dim1=-2, dim2=-1)
        return entry[:, None].expand(-1, people, -1, -1).reshape(len(x), 1, -1)

    torch.mul(x, diagonal(0), out=y)
    for shift in range(1, size):
        y[..., :-shift].addcmul_(x[..., shift:], diagonal(shift)[..., :-shift])
        y[..., shift:].addcmul_(x[..., :-shift], diagonal(-shift)[..., shift:])

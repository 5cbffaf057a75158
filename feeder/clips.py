"""Clips: windows of a packed data set's frames, resampled to a fixed length."""

from __future__ import annotations

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
from data_gen.skeletons import NTU_LAYOUT, FrameLayout
from feeder.sampling import ViewRandom
from utils.errors import UserError
from utils.files import fingerprint

NUM_FRAMES = 64
# Clips resampled at a time on a CPU, so few that their frames stay in its cache.
_CPU_CHUNK = 64


@dataclass(frozen=True)
class Windows:
    """B clips before they are resampled: windows of a data set's frames. All tensors are on one device.

    frames: float32 (F, M·V·C), those of the whole data set
    first, length: int64 (B,), each window's first frame and number of frames
    shape: people, joints and coordinates of a frame, (M, V, C)
    joint_map: float32 (B, V, C, C), map S of every joint x to S·x, which resampling applies; None: no map
    """

    frames: Tensor
    first: Tensor
    length: Tensor
    shape: tuple[int, int, int] = NTU_LAYOUT.shape
    joint_map: Tensor | None = None

    def cut(self, start: Tensor, length: Tensor) -> Windows:
        """Cut the windows to `length` frames from `start`, both int64 (B,), counted within the window."""
        return replace(self, first=self.first + start, length=length)

    def map_joints(self, joint_map: Tensor) -> Windows:
        """Apply the linear map (B, V, C, C) to each joint, after earlier maps."""
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
        return fingerprint(*(values.cpu().numpy() for values in (self.num_frame, self.label, sampled)))

    def is_centred(self) -> bool:
        """Return whether the skeleton's centre of person 0 is at the origin in the first frames of at most 1,024
        recordings."""
        first = self.frames[self.first[:1024]].unflatten(1, self.layout.shape)
        return self.layout.skeleton.centre is not None and not is_off_centre(first[:, None], self.layout).any()

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
        arrays = dataset.num_frame[indices], dataset.label[indices], dataset.first[indices]
        return cls(frames, *arrays, dataset.layout)

    @classmethod
    def joined(cls, parts: Sequence[ClipDataset]) -> ClipDataset:
        """Concatenate data sets of one layout and device; on a CPU this copies their frames into memory."""
        if len(parts) == 1:
            return parts[0]
        layout = parts[0].layout
        if other := [part.layout for part in parts if part.layout != layout]:
            raise UserError(
                f"the data sets hold people of different kinds: {layout} and {other[0]}; import one of them again"
            )
        frames = torch.cat([part.frames for part in parts]).view(-1, *layout.shape)
        offsets = np.cumsum([0] + [len(part.frames) for part in parts[:-1]])
        first = [part.first.cpu().numpy() + offset for part, offset in zip(parts, offsets)]
        num_frame, label = ([getattr(part, name).cpu().numpy() for part in parts] for name in ("num_frame", "label"))
        return cls(frames, np.concatenate(num_frame), np.concatenate(label), np.concatenate(first), layout)

    def others(self, dataset: PackedDataset, indices: np.ndarray) -> ClipDataset:
        """Select the recordings at `indices` of the packed data set that this one was made from; frames are shared."""
        arrays = dataset.num_frame[indices], dataset.label[indices], dataset.first[indices]
        return ClipDataset(self.frames.view(-1, *self.layout.shape), *arrays, self.layout)

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

    def windows(self, indices: Tensor | slice) -> Windows:
        """Return the whole recordings at `indices`."""
        return Windows(self.frames, self.first[indices], self.num_frame[indices], self.layout.shape)

    def views(self, indices: Tensor, count: int, seed: int, epoch: int) -> tuple[Windows, ViewRandom]:
        """Return `count` windows of each recording at `indices`, int64 (R,) on this device, and the random numbers to
        augment each independently: all first views, then all second ones, and so on."""
        return self.windows(indices.repeat(count)), ViewRandom.of_views(seed, epoch, indices, count)


class ResampleClip(nn.Module):
    """Resample windows to `num_frames`: interpolate each linearly along time (half-pixel centres, edges clamped), then
    apply its joint map (docs/method.md, 3). Both are linear, so their order does not matter."""

    def __init__(self, num_frames: int = NUM_FRAMES):
        super().__init__()
        self.num_frames = num_frames

    def extra_repr(self) -> str:
        return f"num_frames={self.num_frames}"

    def forward(self, windows: Windows, random: ViewRandom | None = None) -> Tensor:
        """Windows → float32 (B, num_frames, M, V, C)."""
        size, device = len(windows.first), windows.frames.device
        chunk = _CPU_CHUNK if device.type == "cpu" else max(1, size)
        result = torch.empty(size, self.num_frames, *windows.shape, device=device)
        for start in range(0, size, chunk):
            part = slice(start, start + chunk)
            resized = _resize(windows.frames, windows.first[part], windows.length[part], self.num_frames)
            resized = resized.unflatten(-1, windows.shape)
            if windows.joint_map is None:
                result[part] = resized
            else:
                _map_joints(resized, windows.joint_map[part], out=result[part])
        return result


def resample(clips: Tensor) -> Tensor:
    """Resample clips of one length, float32 (B, T, M, V, C), to 64 frames: (B, 64, M, V, C)."""
    size, length = clips.shape[:2]
    first = torch.arange(0, size * length, length, device=clips.device)
    people, joints, coordinates = clips.shape[2:]
    frames = clips.flatten(2).flatten(0, 1)
    windows = Windows(frames, first, torch.full_like(first, length), (people, joints, coordinates))
    return ResampleClip()(windows)


def is_off_centre(clips: Tensor, layout: FrameLayout) -> Tensor:
    """Return which clips (B, T, M, V, C) are not centred: bool (B,). In these, the skeleton's centre of person 0 is
    away from the origin in every frame that shows the person."""
    if layout.skeleton.centre is None:
        return torch.zeros(len(clips), dtype=torch.bool, device=clips.device)
    person = clips[:, :, 0]
    is_shown = person.abs().flatten(2).amax(2) > 0
    distance = person[:, :, layout.skeleton.centre].abs().amax(2)
    nearest = torch.where(is_shown, distance, torch.inf).amin(1)
    return (nearest > OFF_CENTRE) & is_shown.any(1)


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

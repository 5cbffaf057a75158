"""A plain version of pre-training, written like a first implementation, as an oracle for tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.augment import RandomPoseAugmentation, RandomTemporalCrop
from feeder.clips import NUM_FRAMES, Windows
from feeder.sampling import ViewRandom


def view(windows: Windows, random: ViewRandom) -> Tensor:
    """Draw one augmented view (B, 64, 2, 25, 3), clip by clip, with the random numbers of the project's modules."""
    windows = RandomPoseAugmentation()(RandomTemporalCrop()(windows, random), random)
    views = []
    for first, length, maps in zip(windows.first.tolist(), windows.length.tolist(), windows.joint_map):
        frames = windows.frames[first : first + length].T[None]
        clip = F.interpolate(frames, size=NUM_FRAMES, mode="linear", align_corners=False)[0].T.reshape(64, 2, 25, 3)
        views.append(torch.stack([clip[:, :, joint] @ maps[joint].T for joint in range(25)], dim=2))
    return torch.stack(views)


def derive(clip: Tensor, modality: str, parents: Tensor) -> Tensor:
    if modality == "bone":
        return clip - clip[:, :, :, parents]
    if modality == "motion":
        return torch.cat((clip[:, 1:] - clip[:, :-1], torch.zeros_like(clip[:, :1])), dim=1)
    return clip


def encode(encoder: nn.Module, clip: Tensor, modalities: tuple[str, ...], parents: Tensor) -> Tensor:
    """Encode clips (B, 64, M, V, C) with PyTorch's own transformer layer: (B, 2H)."""
    maxima = []
    for kind in ("temporal", "spatial"):
        embedded = []
        for modality in modalities:
            x = derive(clip, modality, parents)
            tokens = x.flatten(2) if kind == "temporal" else x.permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)
            first, norm, relu, second = getattr(encoder.embeddings[modality], kind)
            embedded.append(second(relu(norm(first(tokens)))))
        fused = embedded[0] if len(embedded) == 1 else sum(embedded) / len(embedded) @ encoder.fusion[kind].weight.T
        fused = fused + encoder.positions.pe[:, :64] if kind == "temporal" else fused
        maxima.append(nn.TransformerEncoderLayer.forward(encoder.layers[kind], fused).amax(1))
    return torch.cat(maxima, dim=1)


def loss(method: nn.Module, views: tuple[Tensor, ...], parents: Tensor) -> Tensor:
    """Compute the published objective of UmURL on a view for each stream, with D×D covariances."""
    names = method.modalities
    fused = encode(method.encoder, views[-1], names, parents)
    z = [method.projectors[m](encode(method.encoder, clip, (m,), parents)) for m, clip in zip(names, views)]
    u = [method.projectors[m](fused) for m in names]
    mean = sum(z) / len(z)
    total = 5 * sum(F.mse_loss(a, b) + F.mse_loss(a, mean) for a, b in zip(z, u))
    for a in (*z, *u):
        covariance = torch.cov(a.T)
        variance = covariance.diagonal()
        off_diagonal = covariance.square().sum() - variance.square().sum()
        total = total + 5 * F.relu(1 - torch.sqrt(variance + 1e-4)).mean() + off_diagonal / len(covariance)
    return total

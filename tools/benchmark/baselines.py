"""Plain textbook versions of every stage, for `python -m tools.benchmark --baseline` and for tests.

Each is written like a first implementation and gives the project's result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from data_gen.recipes import ClassifierRecipe
from feeder.layout import NTU_LAYOUT
from feeder.modality_names import MODALITIES
from models.encoder import Backbone
from torch import Tensor, nn

from data_gen.raw.skeleton_file import MAX_BODIES
from feeder.augment import RandomPoseAugmentation, RandomTemporalCrop
from feeder.clips import NUM_FRAMES, ClipBatch, ClipDataset, evaluation_view
from models.umurl import Projections

# ---- convert ---------------------------------------------------------------------------------------------------------


def parse(text: str) -> np.ndarray:
    """Read the bodies of a recording line by line: float64 (T, S, 25, 3)."""
    lines = iter(text.splitlines())
    frames = []
    for _ in range(int(next(lines))):
        bodies = []
        for _ in range(int(next(lines))):
            next(lines)
            rows = [[float(value) for value in next(lines).split()] for _ in range(int(next(lines)))]
            bodies.append([row[:3] for row in rows])
        frames.append(bodies[:MAX_BODIES])
    result = np.zeros((len(frames), max(map(len, frames)), 25, 3))
    for t, bodies in enumerate(frames):
        for slot, body in enumerate(bodies):
            result[t, slot] = body
    return result


def normalise(bodies: np.ndarray) -> np.ndarray:
    """Make people, float32 (T, 2, 25, 3), centred and aligned frame by frame, of bodies (T, S, 25, 3)."""
    people = _two_people(bodies)
    for person in range(2):
        _fill(people[:, person])
    for frame in people:
        origin = frame[0, 1].copy()
        for person in frame:
            for joint in person:
                if joint.sum() != 0:
                    joint -= origin
    rotation = _rotation(people[0, 0, 8].astype(np.float64) - people[0, 0, 4])
    for frame in people:
        for person in frame:
            person[:] = person @ rotation.T
    return people


def _two_people(bodies: np.ndarray) -> np.ndarray:
    energy = []
    for slot in range(bodies.shape[1]):
        present = np.array([frame for frame in bodies[:, slot] if frame.sum() != 0])
        energy.append(sum(present[:, :, axis].std() for axis in range(3)) if len(present) else 0.0)
    people = np.zeros((len(bodies), 2, 25, 3), np.float32)
    for person, slot in enumerate(np.argsort(energy)[::-1][:2]):
        people[:, person] = bodies[:, slot]
    return people


def _fill(person: np.ndarray) -> None:
    present = [t for t, frame in enumerate(person) if frame.sum() != 0]
    if not present:
        return
    if present[0] != 0:
        frames = person[present]
        person[:] = 0
        person[: len(frames)] = frames
        end = len(frames)
    else:
        end = present[-1] + 1
    for t in range(end, len(person)):
        person[t] = person[(t - end) % end]


def _rotation(v: np.ndarray) -> np.ndarray:
    x = np.array([1.0, 0.0, 0.0])
    axis = np.cross(v, x)
    if np.abs(axis).sum() < 1e-6:
        return np.eye(3)
    angle = np.arccos(v @ x / np.linalg.norm(v))
    a = np.cos(angle / 2)
    b, c, d = -axis / np.linalg.norm(axis) * np.sin(angle / 2)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c)],
            [2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b)],
            [2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - b * b - c * c],
        ]
    )


def convert(text: bytes, protocols: int) -> np.ndarray:
    """Read and normalise one recording, once per protocol: float32 (T, 2, 25, 3)."""
    for _ in range(protocols):
        people = normalise(parse(text.decode()))
    return people


# ---- feed ------------------------------------------------------------------------------------------------------------


def training_view(clips: ClipBatch) -> Tensor:
    """Make one augmented view (B, 64, 2, 25, 3), clip by clip, with the random numbers of the project's transforms."""
    drawn = RandomPoseAugmentation()(RandomTemporalCrop()(clips))
    views = []
    for first, length, maps in zip(drawn.first.tolist(), drawn.length.tolist(), drawn.joint_map.cpu().numpy()):
        clip = resize(drawn.frames[first : first + length].cpu()).numpy()
        view = np.empty_like(clip)
        for joint in range(25):
            view[:, :, joint] = clip[:, :, joint] @ maps[joint].T
        views.append(view)
    return torch.from_numpy(np.stack(views))


def resize(frames: Tensor) -> Tensor:
    """Interpolate one clip (n, 150) along time: (64, 2, 25, 3)."""
    resized = F.interpolate(frames.T[None], size=NUM_FRAMES, mode="linear", align_corners=False)
    return resized[0].T.reshape(NUM_FRAMES, 2, 25, 3).contiguous()


# ---- objective and step ----------------------------------------------------------------------------------------------


def variance_covariance(z: Tensor) -> Tensor:
    """Compute the regulariser of z (B, D) from its D×D covariance with masked diagonal."""
    z = z - z.mean(0)
    deviation = torch.sqrt(z.var(0) + 1e-4)
    covariance = z.T @ z / (len(z) - 1)
    off_diagonal = covariance[~torch.eye(z.shape[1], dtype=torch.bool, device=z.device)]
    return 5 * F.relu(1 - deviation).mean() + off_diagonal.pow(2).sum() / z.shape[1]


def loss(projections: Projections) -> Tensor:
    """Compute the objective of six projections (B, D)."""
    z = [projections[f"{stream}{m}"].float() for stream in ("", "multi_") for m in MODALITIES]
    mean = (z[0] + z[1] + z[2]) / 3
    intra = F.mse_loss(z[0], z[3]) + F.mse_loss(z[1], z[4]) + F.mse_loss(z[2], z[5])
    inter = F.mse_loss(z[0], mean) + F.mse_loss(z[1], mean) + F.mse_loss(z[2], mean)
    return 5 * (intra + inter) + sum(variance_covariance(a) for a in z)


def derive(clip: Tensor, modality: str) -> Tensor:
    """Derive joint, bone or motion from clips (B, T, M, V, C)."""
    if modality == "bone":
        return clip - clip[:, :, :, list(NTU_LAYOUT.skeleton.parents)]
    if modality == "motion":
        return torch.cat((clip[:, 1:] - clip[:, :-1], torch.zeros_like(clip[:, :1])), dim=1)
    return clip


def embed(backbone: Backbone, clip: Tensor, modality: str) -> tuple[Tensor, Tensor]:
    """Embed one modality of clips: temporal and spatial tokens (B, tokens, H)."""
    layers = {"joint": backbone.j_emb, "bone": backbone.b_emb, "motion": backbone.m_emb}[modality]
    x = derive(clip, modality)
    temporal, spatial = x.flatten(2), x.permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)
    return layers.t_embedding(temporal), layers.s_embedding(spatial)


def embed_fused(backbone: Backbone, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Embed and fuse all modalities of clips: temporal and spatial tokens (B, tokens, H)."""
    temporal, spatial = (sum(kind) / len(MODALITIES) for kind in zip(*(embed(backbone, clip, m) for m in MODALITIES)))
    return backbone.mm_fusion.t_fusion(temporal), backbone.mm_fusion.s_fusion(spatial)


def encode(backbone: Backbone, embedded: tuple[Tensor, Tensor]) -> Tensor:
    """Encode embedded tokens to features (B, 2H) by PyTorch's transformer layer."""
    encoder, (temporal, spatial) = backbone.ma_encoder, embedded
    maxima = []
    for transformer, x in ((encoder.t_tr, encoder.pe(temporal)), (encoder.s_tr, spatial)):
        (layer,) = transformer.layers
        assert isinstance(layer, nn.TransformerEncoderLayer)
        maxima.append(nn.TransformerEncoderLayer.forward(layer, x).amax(1))
    return torch.cat(maxima, dim=1)


def features(backbone: Backbone, clip: Tensor) -> Tensor:
    """Encode all modalities of clips, fused, to features (B, 2H)."""
    return encode(backbone, embed_fused(backbone, clip))


def forward(model: nn.Module, views: Sequence[Tensor]) -> Projections:
    """Compute the six projections by four encoder calls, one after another."""
    backbone, projections = model.backbone, {}
    assert isinstance(backbone, Backbone)
    multi = features(backbone, views[3])
    for view, modality in zip(views, MODALITIES):
        projector = model.get_submodule(f"{modality[0]}_projector")
        projections[modality] = projector(encode(backbone, embed(backbone, view, modality)))
        projections[f"multi_{modality}"] = projector(multi)
    return projections


class PlainTrainer:
    """Train `model` in the precision `dtype` (None: float32) with unfused Adam."""

    def __init__(self, model: nn.Module, lr: float, wd: float, dtype: torch.dtype | None):
        self.model, self.dtype = model.train(), dtype
        self.optimizer = torch.optim.Adam(model.parameters(), lr, weight_decay=wd)
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)

    def step(self, views: Sequence[Tensor]) -> float:
        """Take one step on four views. Return its loss."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            projections = forward(self.model, views)
        value = loss(projections)
        self.optimizer.zero_grad()
        self.scaler.scale(value).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value.item()


# ---- probe and retrieve ----------------------------------------------------------------------------------------------


def probe_epoch(backbone: Backbone, dataset: ClipDataset, num_classes: int, recipe: ClassifierRecipe) -> nn.Linear:
    """Train a linear probe for an epoch that encodes each clip when it is visited; seed 0. Return the layer."""
    generator, device = torch.Generator().manual_seed(0), next(backbone.parameters()).device
    linear = nn.Linear(2 * backbone.hidden_size, num_classes, device=device)
    with torch.no_grad():
        linear.weight.copy_(0.01 * torch.randn(linear.weight.shape, generator=generator))
        linear.bias.zero_()
    optimizer = torch.optim.SGD(linear.parameters(), recipe.lr, momentum=recipe.momentum)
    for rows in torch.randperm(len(dataset), generator=generator).to(dataset.device).split(recipe.batch_size):
        with torch.no_grad():
            feature = features(backbone, evaluation_view(dataset.clips(rows)).to(device))
        optimizer.zero_grad()
        F.cross_entropy(linear(feature), dataset.label[rows].to(device)).backward()
        optimizer.step()
    return linear


def nearest(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Find the nearest row of the gallery (G, D) to each query by cosine, one query after another: int64 (Q,)."""
    size = np.linalg.norm(gallery, axis=1)
    return np.array([np.argmax(gallery @ query / (size * np.linalg.norm(query))) for query in queries])

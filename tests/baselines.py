"""Plain textbook versions of every stage: what the project is compared with, by its tests and by
`python -m tools.benchmark --baseline`. Nothing else uses them.

Each gives the product's result, by the way a first implementation would take.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.raw.skeleton_file import MAX_BODIES
from data_gen.recipes import ClassifierRecipe
from feeder.augment import RandomPoseAugmentation, RandomTemporalCrop, evaluation_view
from feeder.clips import NUM_FRAMES, ClipBatch, ClipDataset
from feeder.modalities import MODALITIES, Tokens, to_tokens
from models.encoder import Backbone, ModalityAgnosticEncoder
from models.umurl import Projections, UmURL, name_projections
from tools.utils.metrics import top_k_accuracy

# ---- convert ---------------------------------------------------------------------------------------------------------


def parse(text: str) -> np.ndarray:
    """Bodies of a recording, float64 (T, S, 25, 3), read line by line."""
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
    """Bodies (T, S, 25, 3) → people float32 (T, 2, 25, 3), centred and aligned, frame by frame."""
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
    """One recording, read and normalised once for each protocol: float32 (T, 2, 25, 3)."""
    for _ in range(protocols):
        people = normalise(parse(text.decode()))
    return people


# ---- feed ------------------------------------------------------------------------------------------------------------


def training_view(clips: ClipBatch) -> Tensor:
    """One augmented view (B, 64, 2, 25, 3), clip by clip, of what the product's transforms would draw."""
    drawn = RandomPoseAugmentation()(RandomTemporalCrop()(clips))
    frames, joint_map = drawn.frames.cpu(), drawn.joint_map.numpy()
    views = []
    for first, length, maps in zip(drawn.first.tolist(), drawn.length.tolist(), joint_map):
        clip = resize(frames[first : first + length]).numpy()
        view = np.empty_like(clip)
        for joint in range(25):
            view[:, :, joint] = clip[:, :, joint] @ maps[joint].T
        views.append(view)
    return torch.from_numpy(np.stack(views))


def resize(frames: Tensor) -> Tensor:
    """One clip (n, 150), interpolated along time: (64, 2, 25, 3)."""
    resized = F.interpolate(frames.T[None], size=NUM_FRAMES, mode="linear", align_corners=False)
    return resized[0].T.reshape(NUM_FRAMES, 2, 25, 3).contiguous()


# ---- objective and step ----------------------------------------------------------------------------------------------


def variance_covariance(z: Tensor) -> Tensor:
    """The regulariser of z (B, D) by its D×D covariance, the diagonal masked out."""
    z = z - z.mean(0)
    deviation = torch.sqrt(z.var(0) + 1e-4)
    covariance = z.T @ z / (len(z) - 1)
    off_diagonal = covariance[~torch.eye(z.shape[1], dtype=torch.bool, device=z.device)]
    return 5 * F.relu(1 - deviation).mean() + off_diagonal.pow(2).sum() / z.shape[1]


def loss(projections: Projections) -> Tensor:
    """The objective of six projections (B, D)."""
    z = [p.float() for p in projections.values()]
    mean = (z[0] + z[1] + z[2]) / 3
    intra = F.mse_loss(z[0], z[3]) + F.mse_loss(z[1], z[4]) + F.mse_loss(z[2], z[5])
    inter = F.mse_loss(z[0], mean) + F.mse_loss(z[1], mean) + F.mse_loss(z[2], mean)
    return 5 * (intra + inter) + sum(variance_covariance(a) for a in z)


def encode(encoder: ModalityAgnosticEncoder, embedded: Tokens) -> Tensor:
    """Features (B, 2H) by PyTorch's own transformer layer."""
    temporal, spatial = encoder.t_tr.layers[0], encoder.s_tr.layers[0]
    t = nn.TransformerEncoderLayer.forward(temporal, encoder.pe(embedded.temporal))
    s = nn.TransformerEncoderLayer.forward(spatial, embedded.spatial)
    return torch.cat((t.amax(1), s.amax(1)), dim=1)


def forward(model: UmURL, views: tuple[Tensor, ...]) -> Projections:
    """The six projections by four encoder calls, one after another."""
    backbone: Backbone = model.backbone
    projectors = (model.j_projector, model.b_projector, model.m_projector)
    features = [encode(backbone.ma_encoder, backbone.embed(to_tokens(v, m), m)) for v, m in zip(views, MODALITIES)]
    fused = backbone.mm_fusion([backbone.embed(to_tokens(views[3], m), m) for m in MODALITIES])
    multi = encode(backbone.ma_encoder, fused)
    return name_projections([p(y) for p, y in zip(projectors, features)] + [p(multi) for p in projectors])


class PlainTrainer:
    """Training steps of `model`, in the precision `dtype` (None: float32), with Adam as it comes."""

    def __init__(self, model: UmURL, lr: float, wd: float, dtype: torch.dtype | None):
        self.model, self.dtype = model.train(), dtype
        self.optimizer = torch.optim.Adam(model.parameters(), lr, weight_decay=wd)
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)

    def step(self, views: tuple[Tensor, ...]) -> float:
        """One step on four views; its loss."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            projections = forward(self.model, views)
        value = loss(projections)
        self.optimizer.zero_grad()
        self.scaler.scale(value).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value.item()


# ---- probe and retrieve ----------------------------------------------------------------------------------------------


class PlainProbe:
    """A linear probe that encodes every clip anew each time it is visited."""

    def __init__(self, backbone: Backbone, num_classes: int, recipe: ClassifierRecipe, seed: int):
        self.backbone, self.recipe = backbone, recipe
        self.generator = torch.Generator().manual_seed(seed)
        self.device = next(backbone.parameters()).device
        self.linear = nn.Linear(2 * backbone.hidden_size, num_classes)
        with torch.no_grad():
            self.linear.weight.copy_(0.01 * torch.randn(self.linear.weight.shape, generator=self.generator))
            self.linear.bias.zero_()
        self.linear.to(self.device)
        self.optimizer = torch.optim.SGD(self.linear.parameters(), recipe.lr, momentum=recipe.momentum)

    def run(self, train: ClipDataset, val: ClipDataset) -> list[tuple[int, float, float]]:
        """The whole recipe; (epoch, top-1, top-5), both in %, of every validation."""
        validations = []
        for epoch in range(1, self.recipe.epochs + 1):
            self.optimizer.param_groups[0]["lr"] = self.recipe.lr * 0.1 ** sum(
                epoch > at for at in self.recipe.schedule
            )
            self.train_epoch(train)
            if epoch % self.recipe.validate_every == 0 or epoch == self.recipe.epochs:
                scores, labels = self.scores(val), val.label.to(self.device)
                validations.append((epoch, top_k_accuracy(scores, labels, 1), top_k_accuracy(scores, labels, 5)))
        return validations

    def train_epoch(self, source: ClipDataset) -> None:
        for rows in torch.randperm(len(source), generator=self.generator).split(self.recipe.batch_size):
            scores = self.linear(self.features(source, rows))
            self.optimizer.zero_grad()
            F.cross_entropy(scores, source.label[rows].to(self.device)).backward()
            self.optimizer.step()

    @torch.no_grad()
    def scores(self, source: ClipDataset) -> Tensor:
        """Of every clip and class: (N, classes)."""
        batches = torch.arange(len(source)).split(self.recipe.batch_size)
        return torch.cat([self.linear(self.features(source, rows)) for rows in batches])

    @torch.no_grad()
    def features(self, source: ClipDataset, rows: Tensor) -> Tensor:
        clip = evaluation_view()(source.clips(rows)).to(self.device)
        return self.backbone({m: to_tokens(clip, m) for m in MODALITIES})


def nearest(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Position in the gallery (G, D) of each query's nearest by cosine, one query after another: int64 (Q,)."""
    size = np.linalg.norm(gallery, axis=1)
    return np.array([np.argmax(gallery @ query / (size * np.linalg.norm(query))) for query in queries])

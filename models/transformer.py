"""The paper's encoder (docs/method.md, 5): tokens, an embedding per modality, early fusion, one modality-agnostic
transformer.

`EncoderLayer` and `Fusion` are the paper's. `MergedEncoderLayer` and `MergedFusion` compute the same with fewer matrix
products, exactly; they are what runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_gen.skeletons import FrameLayout
from feeder.clips import NUM_FRAMES
from models.encoder import Encoder
from utils.errors import UserError

MAX_POSITIONS = 200


class Tokens(NamedTuple):
    """temporal: (B, T, M·V·C), one token per frame. spatial: (B, M·V, T·C), one token per person and joint. Embedded:
    (B, N, H) of both kinds."""

    temporal: Tensor
    spatial: Tensor


def to_tokens(clip: Tensor) -> Tokens:
    """Arrange one modality of clips (B, T, M, V, C) as tokens."""
    return Tokens(clip.flatten(2), clip.permute(0, 2, 3, 1, 4).flatten(1, 2).flatten(2))


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Apply `norm` in the precision of x: autocast would return float32, twice the memory traffic. The statistics are
    float32 either way."""
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


class TokenEmbedding(nn.Sequential):
    """Embed tokens (B, N, D) → (B, N, H): Linear, LayerNorm, ReLU, Linear."""

    def __init__(self, token_size: int, hidden_size: int):
        super().__init__(
            nn.Linear(token_size, hidden_size),
            nn.LayerNorm(hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self[3](self.hidden(tokens))

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return the input of the second Linear, (B, N, H)."""
        return F.relu(layer_norm(self[0](tokens), cast(nn.LayerNorm, self[1])))


class Embedding(nn.Module):
    """Embed one modality's tokens."""

    def __init__(self, hidden_size: int, layout: FrameLayout):
        super().__init__()
        self.temporal = TokenEmbedding(layout.size, hidden_size)
        self.spatial = TokenEmbedding(NUM_FRAMES * layout.coordinates, hidden_size)

    def forward(self, tokens: Tokens) -> Tokens:
        return Tokens(self.temporal(tokens.temporal), self.spatial(tokens.spatial))


class Fusion(nn.Linear):
    """Fuse several modalities' tokens of one kind early: the mean of their embeddings, then a Linear without bias."""

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, hidden_size, bias=False)

    def forward(self, parts: Sequence[tuple[TokenEmbedding, Tensor]]) -> Tensor:  # type: ignore[override]
        """Embed each modality's tokens (B, N, D) by its own embedding, and fuse them: (B, N, H)."""
        embedded = [embedding(tokens) for embedding, tokens in parts]
        return super().forward(torch.stack(embedded).mean(0))


class MergedFusion(Fusion):
    """The embeddings' second Linears, the mean and the fusion are one linear map of the concatenated hidden states. So
    one product computes them, with three quarters of the work for three modalities."""

    def forward(self, parts: Sequence[tuple[TokenEmbedding, Tensor]]) -> Tensor:  # type: ignore[override]
        linears = [cast(nn.Linear, embedding[3]) for embedding, _ in parts]
        joined = torch.cat([self.weight @ linear.weight for linear in linears], dim=1) / len(parts)
        bias = self.weight @ torch.stack([linear.bias for linear in linears]).mean(0)
        return F.linear(torch.cat([embedding.hidden(tokens) for embedding, tokens in parts], dim=-1), joined, bias)


class PositionalEncoding(nn.Module):
    """Add the fixed sinusoidal positional encoding (sine and cosine interleaved, base 10000) to (..., T, H)."""

    pe: Tensor

    def __init__(self, hidden_size: int):
        super().__init__()
        position = torch.arange(MAX_POSITIONS)[:, None]
        frequency = torch.exp(torch.arange(0, hidden_size, 2) * (-math.log(10000.0) / hidden_size))
        encoding = torch.zeros(1, MAX_POSITIONS, hidden_size)
        encoding[0, :, 0::2] = torch.sin(position * frequency)
        encoding[0, :, 1::2] = torch.cos(position * frequency)
        self.register_buffer("pe", encoding)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[0, : x.shape[-2]].to(x.dtype)


class EncoderLayer(nn.TransformerEncoderLayer):
    """PyTorch's post-norm layer (same parameters, names and initial values) with one head and no dropout or masks."""

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, nhead=1, dim_feedforward=hidden_size, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        x = layer_norm(x + self.attend(x), self.norm1)
        return layer_norm(x + self.linear2(F.relu(self.linear1(x))), self.norm2)

    def attend(self, x: Tensor) -> Tensor:
        """Apply self-attention with one head to tokens (B, N, H)."""
        attention = self.self_attn
        query, key, value = F.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        weights = (query @ key.mT * x.shape[-1] ** -0.5).softmax(-1)
        return attention.out_proj(weights.to(x.dtype) @ value)


class MergedEncoderLayer(EncoderLayer):
    """With one head, two of the six H×H products per token can be left out, exactly.

    A score (Wq·x + bq)·(Wk·y + bk) equals (WkᵀWq·x + Wkᵀbq)·y plus a term that all keys share, which softmax ignores.
    And as attention weights sum to one, the output projection can be merged into the value projection. So the tokens
    themselves are keys and values. The products are written out because library kernels take many times longer for so
    large a head and so few tokens (docs/benchmarks.md).
    """

    def attend(self, x: Tensor) -> Tensor:
        attention, out = self.self_attn, self.self_attn.out_proj
        query, key, value = attention.in_proj_weight.chunk(3)
        query_bias, _, value_bias = attention.in_proj_bias.chunk(3)
        scale = x.shape[-1] ** -0.5
        # Vectors stand on the right: in PyTorch 2.11 the compiler fails on the gradient of a product with one row.
        weight, bias = key.T @ query * scale, key.T @ query_bias * scale
        out_weight, out_bias = out.weight @ value, out.weight @ value_bias + out.bias
        scores = F.linear(x, weight, bias) @ x.mT
        mixed = scores.softmax(-1).to(x.dtype) @ x
        return F.linear(mixed, out_weight, out_bias)


class Transformer(Encoder):
    """Encode modalities of clips to features of 2·hidden_size: the maxima over the temporal and the spatial tokens.

    layout: what a frame holds. fusion, layer: the classes that fuse modalities and encode tokens.
    """

    def __init__(
        self,
        hidden_size: int,
        modalities: Sequence[str],
        layout: FrameLayout,
        fusion: type[Fusion] = MergedFusion,
        layer: type[EncoderLayer] = MergedEncoderLayer,
    ):
        super().__init__()
        if hidden_size % 2:
            raise UserError(f"--hidden-size {hidden_size}: the positional encoding needs an even number")
        self.modalities, self.layout, self.feature_size = tuple(modalities), layout, 2 * hidden_size
        self.embeddings = nn.ModuleDict({modality: Embedding(hidden_size, layout) for modality in modalities})
        kinds = ("temporal", "spatial")
        self.fusion = nn.ModuleDict({kind: fusion(hidden_size) for kind in kinds} if len(modalities) > 1 else {})
        self.positions = PositionalEncoding(hidden_size)
        self.layers = nn.ModuleDict({kind: layer(hidden_size) for kind in kinds})

    def forward(self, clips: dict[str, Tensor]) -> Tensor:
        """Encode one modality alone or several, fused early, each float32 (B, 64, M, V, C): (B, feature_size)."""
        return self._pool(self._encode_tokens(self._embed(clips)))

    def encode(self, streams: Sequence[dict[str, Tensor]]) -> list[Tensor]:
        """Encode several streams of B clips in one pass through the layers: (B, feature_size) each."""
        temporal, spatial = zip(*(self._embed(clips) for clips in streams))
        features = self._pool(self._encode_tokens(Tokens(torch.cat(temporal), torch.cat(spatial))))
        return list(features.chunk(len(streams)))

    def frame_features(self, clips: dict[str, Tensor]) -> Tensor:
        """Encode frames, the temporal tokens beside the maximum of the spatial ones: (B, 64, feature_size)."""
        temporal, spatial = self._encode_tokens(self._embed(clips))
        return torch.cat((temporal, spatial.max(1, keepdim=True).values.expand_as(temporal)), dim=-1)

    def _embed(self, clips: dict[str, Tensor]) -> Tokens:
        embeddings = [cast(Embedding, self.embeddings[modality]) for modality in clips]
        tokens = [to_tokens(clip) for clip in clips.values()]
        if len(tokens) == 1:
            return embeddings[0](tokens[0])
        return Tokens(
            self.fusion["temporal"]([(e.temporal, t.temporal) for e, t in zip(embeddings, tokens)]),
            self.fusion["spatial"]([(e.spatial, t.spatial) for e, t in zip(embeddings, tokens)]),
        )

    def _encode_tokens(self, embedded: Tokens) -> Tokens:
        temporal = self.layers["temporal"](self.positions(embedded.temporal))
        return Tokens(temporal, self.layers["spatial"](embedded.spatial))

    def _pool(self, tokens: Tokens) -> Tensor:
        # Not amax: its gradient compares tokens with their maximum. Compiled code computes the tokens again, in another
        # precision than the maximum, so that none may be equal: 0 / 0.
        return torch.cat([kind.max(-2).values for kind in tokens], dim=-1)

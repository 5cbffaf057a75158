"""The unified encoder: embeddings per modality, early fusion, one modality-agnostic transformer (docs/method.md, 5).

Modules are named by the keys of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.clips import NUM_FRAMES
from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.modalities import Tokens
from feeder.modality_names import MODALITIES

MAX_POSITIONS = 200


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
        return self.second(self.hidden(tokens))

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return the input of the second Linear, (B, N, H)."""
        return F.relu(layer_norm(self[0](tokens), cast(nn.LayerNorm, self[1])))

    @property
    def second(self) -> nn.Linear:
        return cast(nn.Linear, self[3])


class Embedding(nn.Module):
    """Embed one modality's temporal and spatial tokens."""

    def __init__(self, hidden_size: int, layout: FrameLayout):
        super().__init__()
        self.t_embedding = TokenEmbedding(layout.size, hidden_size)
        self.s_embedding = TokenEmbedding(NUM_FRAMES * layout.coordinates, hidden_size)

    def forward(self, tokens: Tokens) -> Tokens:
        return Tokens(self.t_embedding(tokens.temporal), self.s_embedding(tokens.spatial))


class Fusion(nn.Module):
    """Fuse several modalities early: the mean of their embeddings, then a Linear without bias, per kind of token."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.t_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))
        self.s_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))

    def forward(self, embeddings: Sequence[Embedding], tokens: Sequence[Tokens]) -> Tokens:
        """Embed each modality's tokens by its own embedding, and fuse them."""
        temporal = [(e.t_embedding, t.temporal) for e, t in zip(embeddings, tokens)]
        spatial = [(e.s_embedding, t.spatial) for e, t in zip(embeddings, tokens)]
        return Tokens(_fuse(temporal, self.t_fusion[0]), _fuse(spatial, self.s_fusion[0]))


def _fuse(parts: list[tuple[TokenEmbedding, Tensor]], fusion: nn.Module) -> Tensor:
    """Apply `fusion` to the mean of the embedded parts.

    The embeddings' second Linears, the mean and `fusion` are one linear map of the concatenated hidden states. So one
    product computes them, exactly, with three quarters of the work for three modalities.
    """
    weight, linears = cast(nn.Linear, fusion).weight, [embedding.second for embedding, _ in parts]
    joined = torch.cat([weight @ linear.weight for linear in linears], dim=1) / len(parts)
    bias = weight @ torch.stack([linear.bias for linear in linears]).mean(0)
    return F.linear(torch.cat([embedding.hidden(tokens) for embedding, tokens in parts], dim=-1), joined, bias)


class PositionCode(nn.Module):
    """Add the fixed sinusoidal position code (sine and cosine interleaved, base 10000) to (..., T, H)."""

    pe: Tensor

    def __init__(self, hidden_size: int):
        super().__init__()
        position = torch.arange(MAX_POSITIONS)[:, None]
        frequency = torch.exp(torch.arange(0, hidden_size, 2) * (-math.log(10000.0) / hidden_size))
        code = torch.zeros(1, MAX_POSITIONS, hidden_size)
        code[0, :, 0::2] = torch.sin(position * frequency)
        code[0, :, 1::2] = torch.cos(position * frequency)
        self.register_buffer("pe", code)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[0, : x.shape[-2]].to(x.dtype)


class EncoderLayer(nn.TransformerEncoderLayer):
    """PyTorch's post-norm layer (same parameters, names and initial values) with one head and no dropout."""

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, nhead=1, dim_feedforward=hidden_size, dropout=0.0, batch_first=True)

    # Unlike PyTorch's layer, it takes no masks.
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        x = layer_norm(x + self._attend(x), self.norm1)
        return layer_norm(x + self.linear2(F.relu(self.linear1(x))), self.norm2)

    def _attend(self, x: Tensor) -> Tensor:
        """Apply self-attention with one head to tokens (B, N, H).

        With one head, two of the six H×H products per token can be left out, exactly. A score (Wq·x + bq)·(Wk·y + bk)
        equals (WkᵀWq·x + Wkᵀbq)·y plus a term that all keys share, which softmax ignores. And as attention weights
        sum to one, the output projection can be merged into the value projection. So the tokens themselves are keys
        and values. The products are written out because library kernels take many times longer for so large a head
        and so few tokens (docs/benchmarks.md).
        """
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


class Transformer(nn.Module):
    """One layer, named `layers.0` as in PyTorch's TransformerEncoder."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(hidden_size)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x)


class ModalityAgnosticEncoder(nn.Module):
    """Encode embedded tokens, fused or not, to features (B, 2H): the maxima over temporal and over spatial tokens."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.pe = PositionCode(hidden_size)
        self.t_tr = Transformer(hidden_size)
        self.s_tr = Transformer(hidden_size)

    def forward(self, embedded: Tokens) -> Tensor:
        # Not amax: its gradient compares tokens with their maximum. Compiled code computes the tokens anew, in another
        # precision than the maximum that it kept, so that none may be equal: 0 / 0.
        return torch.cat([tokens.max(-2).values for tokens in self.encode_tokens(embedded)], dim=-1)

    def encode_tokens(self, embedded: Tokens) -> Tokens:
        """Return the encoded tokens, (B, N, H) of each kind."""
        return Tokens(self.t_tr(self.pe(embedded.temporal)), self.s_tr(embedded.spatial))


class Backbone(nn.Module):
    """Embed, fuse and encode tokens: the part of the model that is kept after pre-training.

    A stream is the input of one feature: the tokens of one modality, encoded without fusion, or of several, fused
    early. Parts that no stream of `modalities` uses exist, as in published checkpoints, but are not trained.
    """

    def __init__(self, hidden_size: int, modalities: Sequence[str] = MODALITIES, layout: FrameLayout = NTU_LAYOUT):
        super().__init__()
        self.hidden_size, self.layout = hidden_size, layout
        self.j_emb = Embedding(hidden_size, layout)
        self.b_emb = Embedding(hidden_size, layout)
        self.m_emb = Embedding(hidden_size, layout)
        self.mm_fusion = Fusion(hidden_size)
        self.ma_encoder = ModalityAgnosticEncoder(hidden_size)
        self.freeze_unused(modalities)

    def freeze_unused(self, modalities: Sequence[str]) -> None:
        """Exclude from training the parts that streams of these modalities do not use."""
        for modality in MODALITIES:
            if modality not in modalities:
                self._embedding(modality).requires_grad_(False)
        if len(modalities) == 1:
            self.mm_fusion.requires_grad_(False)

    def forward(self, stream: dict[str, Tokens]) -> Tensor:
        """Encode one stream to features (B, 2H)."""
        return self.ma_encoder(self._embed(stream))

    def encode_tokens(self, stream: dict[str, Tokens]) -> Tokens:
        """Encode one stream to tokens, before the maximum: temporal (B, 64, H), spatial (B, M·V, H)."""
        return self.ma_encoder.encode_tokens(self._embed(stream))

    def encode(self, streams: Sequence[dict[str, Tokens]]) -> tuple[Tensor, ...]:
        """Encode several streams of B clips to features (B, 2H) each, in one call of the shared encoder."""
        temporal, spatial = zip(*(self._embed(stream) for stream in streams))
        return self.ma_encoder(Tokens(torch.cat(temporal), torch.cat(spatial))).chunk(len(streams))

    def _embed(self, stream: dict[str, Tokens]) -> Tokens:
        embeddings = [self._embedding(modality) for modality in stream]
        if len(stream) == 1:
            return embeddings[0](*stream.values())
        return self.mm_fusion(embeddings, list(stream.values()))

    def _embedding(self, modality: str) -> Embedding:
        return {"joint": self.j_emb, "bone": self.b_emb, "motion": self.m_emb}[modality]

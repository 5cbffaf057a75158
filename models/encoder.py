"""The unified encoder: embeddings per modality, early fusion, one modality-agnostic transformer (docs/method.md, 5).

Module names give the published checkpoints' keys.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.modalities import MODALITIES, Tokens

TEMPORAL_SIZE = 150  # people · joints · coordinates
SPATIAL_SIZE = 192  # frames · coordinates
MAX_POSITIONS = 200


class Embedding(nn.Module):
    """Tokens of one modality to the hidden size: (B, T, 150), (B, 50, 192) → (B, T, H), (B, 50, H)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.t_embedding = self._layers(TEMPORAL_SIZE, hidden_size)
        self.s_embedding = self._layers(SPATIAL_SIZE, hidden_size)

    @staticmethod
    def _layers(token_size: int, hidden_size: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(token_size, hidden_size),
            nn.LayerNorm(hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
        )

    def forward(self, tokens: Tokens) -> Tokens:
        return Tokens(self.t_embedding(tokens.temporal), self.s_embedding(tokens.spatial))


class Fusion(nn.Module):
    """Early fusion: the mean of several modalities' embeddings, then a Linear without bias, per token kind."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.t_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))
        self.s_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))

    def forward(self, embedded: list[Tokens]) -> Tokens:
        temporal, spatial = (sum(kind) / len(embedded) for kind in zip(*embedded))
        return Tokens(self.t_fusion(temporal), self.s_fusion(spatial))


class PositionCode(nn.Module):
    """Adds the fixed sinusoidal code, sine and cosine interleaved, base 10000, to (B, T, H)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        position = torch.arange(MAX_POSITIONS)[:, None]
        frequency = torch.exp(torch.arange(0, hidden_size, 2) * (-math.log(10000.0) / hidden_size))
        code = torch.zeros(1, MAX_POSITIONS, hidden_size)
        code[0, :, 0::2] = torch.sin(position * frequency)
        code[0, :, 1::2] = torch.cos(position * frequency)
        self.register_buffer("pe", code)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[:, : x.shape[1]]


class EncoderLayer(nn.TransformerEncoderLayer):
    """PyTorch's post-norm layer (its parameters, names and initial values) with one head and no dropout, and a
    forward pass that keeps neither attention weights nor transposed copies."""

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, nhead=1, dim_feedforward=hidden_size, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        attention = self.self_attn
        qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias).unsqueeze(1)
        mixed = F.scaled_dot_product_attention(*qkv.chunk(3, dim=-1)).squeeze(1)
        x = self.norm1(x + attention.out_proj(mixed))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class Transformer(nn.Module):
    def __init__(self, hidden_size: int):
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(hidden_size)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class ModalityAgnosticEncoder(nn.Module):
    """Embedded tokens of any modality, or fused ones → features (B, 2H): the maximum over tokens, temporal first."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.pe = PositionCode(hidden_size)
        self.t_tr = Transformer(hidden_size)
        self.s_tr = Transformer(hidden_size)

    def forward(self, embedded: Tokens) -> Tensor:
        temporal = self.t_tr(self.pe(embedded.temporal))
        spatial = self.s_tr(embedded.spatial)
        return torch.cat((temporal.amax(1), spatial.amax(1)), dim=1)


class Backbone(nn.Module):
    """The part that is kept after pre-training."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.hidden_size = hidden_size
        self.j_emb = Embedding(hidden_size)
        self.b_emb = Embedding(hidden_size)
        self.m_emb = Embedding(hidden_size)
        self.mm_fusion = Fusion(hidden_size)
        self.ma_encoder = ModalityAgnosticEncoder(hidden_size)

    def embed(self, tokens: Tokens, modality: str) -> Tokens:
        return {"joint": self.j_emb, "bone": self.b_emb, "motion": self.m_emb}[modality](tokens)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """Features (B, 2H) of clips given by one modality (encoded without fusion) or by several (fused)."""
        embedded = [self.embed(t, modality) for modality, t in tokens.items()]
        return self.ma_encoder(embedded[0] if len(embedded) == 1 else self.mm_fusion(embedded))

    def streams(self, single: dict[str, Tokens], joined: dict[str, Tokens]) -> tuple[Tensor, ...]:
        """Features (B, 2H) of four streams in one encoder call: one for each modality of `single`, encoded by
        itself, then that of all modalities of `joined`, fused."""
        streams = [self.embed(single[m], m) for m in MODALITIES]
        streams.append(self.mm_fusion([self.embed(joined[m], m) for m in MODALITIES]))
        return self.ma_encoder(Tokens(*(torch.cat(kind) for kind in zip(*streams)))).chunk(len(streams))

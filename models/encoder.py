"""The unified encoder: embeddings per modality, early fusion, one modality-agnostic transformer (docs/method.md, 5).

Module names give the published checkpoints' keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feeder.clips import NUM_FRAMES
from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.modalities import MODALITIES, Tokens, to_tokens

MAX_POSITIONS = 200


class Embedding(nn.Module):
    """Tokens of one modality to the hidden size: (B, T, M·V·C) → (B, T, H), (..., T·C) → (..., H)."""

    def __init__(self, hidden_size: int, layout: FrameLayout):
        super().__init__()
        self.t_embedding = self._layers(layout.size, hidden_size)
        self.s_embedding = self._layers(NUM_FRAMES * layout.coordinates, hidden_size)

    @staticmethod
    def _layers(token_size: int, hidden_size: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(token_size, hidden_size),
            nn.LayerNorm(hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
        )

    def forward(self, tokens: Tokens) -> Tokens:
        return Tokens(self.t_embedding(tokens.temporal), *map(self.s_embedding, tokens[1:]))


class Fusion(nn.Module):
    """Early fusion: the mean of several modalities' embeddings, then a Linear without bias, per token kind."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.t_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))
        self.s_fusion = nn.Sequential(nn.Linear(hidden_size, hidden_size, bias=False))

    def forward(self, embedded: list[Tokens]) -> Tokens:
        temporal, *spatial = (sum(kind) / len(embedded) for kind in zip(*embedded))
        return Tokens(self.t_fusion(temporal), *map(self.s_fusion, spatial))


class PositionCode(nn.Module):
    """Adds the fixed sinusoidal code, sine and cosine interleaved, base 10000, to (..., T, H)."""

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
        return x + self.pe[0, : x.shape[-2]]


class EncoderLayer(nn.TransformerEncoderLayer):
    """PyTorch's post-norm layer (its parameters, names and initial values) with one head and no dropout.

    With one head, two products of the textbook form are redundant, exactly: a score (Wq·x + bq)·(Wk·y + bk) is
    (WkᵀWq·x + Wkᵀbq)·y plus what all keys have in common, which softmax ignores; and as attention weights add up
    to one, the output projection can join the value projection. So tokens themselves are keys and values, and
    four products of H×H a token remain of six.

    A token that stands for n equal ones is one key with log n added to its score (`score_bias`, one value a token).
    """

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, nhead=1, dim_feedforward=hidden_size, dropout=0.0, batch_first=True)

    # Nobody calls it as PyTorch's own layer, with masks.
    def forward(self, x: Tensor, score_bias: Tensor | None = None) -> Tensor:  # type: ignore[override]
        x = self.norm1(x + self._attend(x, score_bias))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))

    def _attend(self, x: Tensor, score_bias: Tensor | None) -> Tensor:
        attention = self.self_attn
        query, key, value = attention.in_proj_weight.chunk(3)
        query_bias, _, value_bias = attention.in_proj_bias.chunk(3)
        out = attention.out_proj
        with torch.autocast(x.device.type, enabled=False):  # H×H only: float32 costs nothing
            weight, bias = key.T @ query, query_bias @ key
            out_weight, out_bias = out.weight @ value, F.linear(value_bias, out.weight, out.bias)
        scored = F.linear(x, weight, bias)
        if score_bias is not None:
            score_bias = score_bias.to(scored.dtype)
        queries, tokens = (a.flatten(0, -3).unsqueeze(1) for a in (scored, x.to(scored.dtype)))
        mixed = F.scaled_dot_product_attention(queries, tokens, tokens, score_bias)
        return F.linear(mixed.view_as(scored), out_weight, out_bias)


class Transformer(nn.Module):
    def __init__(self, hidden_size: int):
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer(hidden_size)])

    def forward(self, x: Tensor, score_bias: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, score_bias)
        return x


class ModalityAgnosticEncoder(nn.Module):
    """Embedded tokens of any modality, or fused ones → features (..., B, 2H): the maximum over tokens, temporal first.

    Tokens may have a leading dimension of streams.
    """

    lone_bias: Tensor

    def __init__(self, hidden_size: int, layout: FrameLayout):
        super().__init__()
        self.pe = PositionCode(hidden_size)
        self.t_tr = Transformer(hidden_size)
        self.s_tr = Transformer(hidden_size)
        counts = torch.tensor([1.0] * layout.joints + [(layout.people - 1) * layout.joints])
        self.register_buffer("lone_bias", counts.log().expand(len(counts), -1).contiguous(), persistent=False)

    def forward(self, embedded: Tokens) -> Tensor:
        temporal = self.t_tr(self.pe(embedded.temporal)).amax(-2)
        return torch.cat((temporal, self._spatial(embedded)), dim=-1)

    def _spatial(self, embedded: Tokens) -> Tensor:
        parts = []
        if embedded.lone.shape[-3]:
            parts.append(self.s_tr(embedded.lone, self.lone_bias).amax(-2))
        if embedded.spatial.shape[-3] or not parts:
            parts.append(self.s_tr(embedded.spatial).amax(-2))
        return torch.cat(parts, dim=-2)


class Backbone(nn.Module):
    """The part that is kept after pre-training. Embeddings of other than the `modalities` are there, as published
    checkpoints have them, but are not trained. `layout` is what frames hold."""

    parent_values: Tensor

    def __init__(self, hidden_size: int, modalities: Sequence[str] = MODALITIES, layout: FrameLayout = NTU_LAYOUT):
        super().__init__()
        self.hidden_size, self.layout = hidden_size, layout
        self.j_emb = Embedding(hidden_size, layout)
        self.b_emb = Embedding(hidden_size, layout)
        self.m_emb = Embedding(hidden_size, layout)
        self.mm_fusion = Fusion(hidden_size)
        self.ma_encoder = ModalityAgnosticEncoder(hidden_size, layout)
        self.register_buffer("parent_values", layout.parent_values(), persistent=False)
        for modality in MODALITIES:
            self._embedding(modality).requires_grad_(modality in modalities)

    def _embedding(self, modality: str) -> Embedding:
        return {"joint": self.j_emb, "bone": self.b_emb, "motion": self.m_emb}[modality]

    def unused(self, modalities: Sequence[str]) -> list[nn.Module]:
        """The parts that `forward` of these modalities leaves out."""
        parts: list[nn.Module] = [self._embedding(m) for m in MODALITIES if m not in modalities]
        return [*parts, self.mm_fusion] if len(modalities) == 1 else parts

    def tokens(self, clip: Tensor, modality: str, lone: int = 0) -> Tokens:
        """`to_tokens` of clips (B, T, M, V, C) of this encoder's bodies."""
        return to_tokens(clip, modality, lone, self.parent_values)

    def embed(self, tokens: Tokens, modality: str) -> Tokens:
        return self._embedding(modality)(tokens)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """Features (B, 2H) of clips given by one modality (encoded without fusion) or by several (fused)."""
        return self.encode([self.embed(t, modality) for modality, t in tokens.items()])

    def encode(self, embedded: list[Tokens]) -> Tensor:
        """Features (B, 2H) of one modality's embeddings (without fusion) or of several ones' (fused)."""
        return self.ma_encoder(embedded[0] if len(embedded) == 1 else self.mm_fusion(embedded))

    def streams(self, single: dict[str, Tokens], joined: list[dict[str, Tokens]]) -> tuple[Tensor, ...]:
        """Features (B, 2H) of several streams in one encoder call: one for each modality of `single`, encoded by
        itself, then one for each of `joined`, its modalities fused."""
        streams = [self.embed(tokens, m) for m, tokens in single.items()]
        streams += [self.mm_fusion([self.embed(tokens, m) for m, tokens in j.items()]) for j in joined]
        return self.ma_encoder(Tokens(*map(torch.stack, zip(*streams)))).unbind()

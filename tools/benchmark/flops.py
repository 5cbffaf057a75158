"""Floating-point operations of the model's matrix products, by formula: a multiply-add is two."""

from __future__ import annotations

from feeder.clips import NUM_FRAMES
from feeder.layout import NTU_LAYOUT
from models.umurl import PROJECTION_SIZE

_TOKENS = (NUM_FRAMES, NTU_LAYOUT.people * NTU_LAYOUT.joints)  # temporal, spatial
_TOKEN_SIZES = (NTU_LAYOUT.size, NUM_FRAMES * NTU_LAYOUT.coordinates)
STREAMS = 4  # and views: joint, bone, motion, and the three fused
_EMBEDDINGS = 6  # of each modality: one by itself, one to be fused
_PROJECTIONS = 6


def training_flops(hidden_size: int, batch_size: int) -> int:
    """Operations of one training step of `batch_size` clips: forward and backward.

    Matrix products alone, the objective's not among them, and nothing that an implementation computes twice. The
    backward pass costs each product twice over (gradients of input and of weight), but for the embeddings' first
    layers, whose input needs none.
    """
    first = _EMBEDDINGS * _first_layers(hidden_size)
    return batch_size * (3 * pretraining_flops(hidden_size) - first)


def pretraining_flops(hidden_size: int) -> int:
    """Forward operations of pre-training, one clip in its four views."""
    parts = _EMBEDDINGS * embedding_flops(hidden_size) + fusion_flops(hidden_size)
    return parts + STREAMS * encoder_flops(hidden_size) + _PROJECTIONS * projector_flops(hidden_size)


def _first_layers(h: int) -> int:
    return 2 * h * sum(n * size for n, size in zip(_TOKENS, _TOKEN_SIZES))


def embedding_flops(hidden_size: int) -> int:
    """Forward operations of one modality's embeddings of a clip."""
    return _first_layers(hidden_size) + 2 * sum(_TOKENS) * hidden_size**2


def fusion_flops(hidden_size: int) -> int:
    """Forward operations of fusing a clip's modalities, however many."""
    return 2 * sum(_TOKENS) * hidden_size**2


def encoder_flops(hidden_size: int) -> int:
    """Forward operations of one stream of a clip in the encoder."""
    h = hidden_size
    # Per token: query, key and value 3 h², output h², feed-forward 2 h²; per pair of tokens: score and mixture.
    return 2 * (sum(_TOKENS) * 6 * h**2 + sum(2 * n**2 * h for n in _TOKENS))


def projector_flops(hidden_size: int) -> int:
    """Forward operations of one projection of a clip."""
    width = 2 * hidden_size
    return 2 * (2 * width**2 + width * PROJECTION_SIZE)


def largest_product(hidden_size: int, batch_size: int) -> tuple[int, int, int]:
    """(m, k, n) of the model's largest product, (m, k) by (k, n): query, key and value of all streams' frames."""
    return STREAMS * batch_size * NUM_FRAMES, hidden_size, 3 * hidden_size

"""Floating-point operations of the model's matrix products, by formula."""

from __future__ import annotations

from feeder.body import NTU_BODY
from feeder.clips import NUM_FRAMES
from models.umurl import PROJECTION_SIZE

_TOKENS = (NUM_FRAMES, NTU_BODY.people * NTU_BODY.joints)  # temporal, spatial
_TOKEN_SIZES = (NTU_BODY.size, NUM_FRAMES * NTU_BODY.coordinates)
STREAMS = 4  # and views: joint, bone, motion, and the three fused
_EMBEDDINGS = 6  # of each modality: one by itself, one to be fused
_PROJECTIONS = 6


def training_flops(hidden_size: int, batch_size: int) -> int:
    """Operations of one training step of `batch_size` clips: forward and backward, a multiply-add being two.

    Matrix products alone, the objective's not among them, and nothing that an implementation computes twice. The
    backward pass costs each product twice over (gradients of input and of weight), but for the embeddings' first
    layers, whose input needs none.
    """
    h, tokens = hidden_size, sum(_TOKENS)
    first = _EMBEDDINGS * h * sum(n * size for n, size in zip(_TOKENS, _TOKEN_SIZES))
    embeddings = _EMBEDDINGS * tokens * h**2
    fusion = tokens * h**2
    # Per token: query, key and value 3 h², output h², feed-forward 2 h²; per pair of tokens: score and mixture.
    encoder = STREAMS * (tokens * 6 * h**2 + sum(2 * n**2 * h for n in _TOKENS))
    projectors = _PROJECTIONS * (2 * (2 * h) ** 2 + 2 * h * PROJECTION_SIZE)
    return 2 * batch_size * (2 * first + 3 * (embeddings + fusion + encoder + projectors))


def largest_product(hidden_size: int, batch_size: int) -> tuple[int, int, int]:
    """(m, k, n) of the model's largest product, (m, k) by (k, n): query, key and value of all streams' frames."""
    return STREAMS * batch_size * NUM_FRAMES, hidden_size, 3 * hidden_size

"""Count the floating-point operations of the model's matrix products for one clip; a multiply-add counts as two.

Every layer counts as in docs/method.md, 5, without the savings of this implementation. So the share of a machine's
speed by these formulas (the model FLOP utilisation) compares implementations.
"""

from __future__ import annotations

from feeder.clips import NUM_FRAMES
from feeder.layout import NTU_LAYOUT, FrameLayout
from models.umurl import PROJECTION_SIZE


def training_flops(hidden_size: int, modalities: int = 3, layout: FrameLayout = NTU_LAYOUT) -> int:
    """Count the operations of a training step per clip, forward and backward, without the objective.

    The backward pass has two products (gradients of input and weight) for each forward one, but one for the embeddings'
    first layers, whose input needs no gradient.
    """
    first_layers = 2 * modalities * _first_layers(hidden_size, layout)
    return 3 * pretraining_flops(hidden_size, modalities, layout) - first_layers


def pretraining_flops(hidden_size: int, modalities: int = 3, layout: FrameLayout = NTU_LAYOUT) -> int:
    """Count UmURL's forward operations: a stream per modality, one of all, and two projections per modality."""
    streams = modalities * stream_flops(hidden_size, 1, layout) + stream_flops(hidden_size, modalities, layout)
    return streams + 2 * modalities * _projection(hidden_size)


def stream_flops(hidden_size: int, modalities: int = 3, layout: FrameLayout = NTU_LAYOUT) -> int:
    """Count the forward operations of one feature, of one modality or of several fused."""
    h, tokens = hidden_size, _tokens(layout)
    embedding = _first_layers(h, layout) + 2 * sum(tokens) * h**2
    fusion = 2 * sum(tokens) * h**2 if modalities > 1 else 0
    # Per token: 3 h² for query, key and value, h² for the output, 2 h² for the feed-forward layers. Per pair of tokens:
    # h for the score, h for the weighted sum.
    encoder = 2 * (sum(tokens) * 6 * h**2 + sum(2 * n**2 * h for n in tokens))
    return modalities * embedding + fusion + encoder


def _tokens(layout: FrameLayout) -> tuple[int, int]:
    """Return the numbers of temporal and of spatial tokens."""
    return NUM_FRAMES, layout.people * layout.joints


def _first_layers(hidden_size: int, layout: FrameLayout) -> int:
    """Count the first layers of a modality's two embeddings."""
    frames, joints = _tokens(layout)
    return 2 * hidden_size * (frames * layout.size + joints * NUM_FRAMES * layout.coordinates)


def _projection(hidden_size: int) -> int:
    width = 2 * hidden_size
    return 2 * (2 * width**2 + width * PROJECTION_SIZE)

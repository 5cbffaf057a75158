"""Floating-point operations of the textbook model's matrix products, for one clip; a multiply-add counts as two.

Textbook: every layer as docs/method.md, 5 describes it, with nothing folded away. So a share of a machine's speed by
these formulas (the model FLOP utilisation) compares implementations.
"""

from __future__ import annotations

from feeder.clips import NUM_FRAMES
from feeder.layout import NTU_LAYOUT, FrameLayout
from models.umurl import PROJECTION_SIZE


def training_flops(hidden_size: int, modalities: int = 3, layout: FrameLayout = NTU_LAYOUT) -> int:
    """Count the operations of a training step per clip, forward and backward, without the objective.

    The backward pass has two products for each of the forward pass (gradients of the input and of the weight), and
    one for the embeddings' first layers, whose input needs no gradient.
    """
    first_layers = 2 * modalities * _first_layers(hidden_size, layout)
    return 3 * pretraining_flops(hidden_size, modalities, layout) - first_layers


def pretraining_flops(hidden_size: int, modalities: int = 3, layout: FrameLayout = NTU_LAYOUT) -> int:
    """Count the forward operations of UmURL: a stream of each modality, one of all, two projections a modality."""
    streams = modalities * stream_flops(hidden_size, 1, layout) + stream_flops(hidden_size, modalities, layout)
    return streams + 2 * modalities * _projection(hidden_size)


def stream_flops(hidden_size: int, modalities: int = 3, layout: FrameLayout = NTU_LAYOUT) -> int:
    """Count the forward operations of the feature of one modality, or of several that are fused."""
    h, tokens = hidden_size, _tokens(layout)
    embedding = _first_layers(h, layout) + 2 * sum(tokens) * h**2
    fusion = 2 * sum(tokens) * h**2 if modalities > 1 else 0
    # A token takes 3 h² for query, key and value, h² for the output and 2 h² for the feed-forward layers; a pair of
    # tokens takes h for its score and h for the weighted sum.
    encoder = 2 * (sum(tokens) * 6 * h**2 + sum(2 * n**2 * h for n in tokens))
    return modalities * embedding + fusion + encoder


def _tokens(layout: FrameLayout) -> tuple[int, int]:
    """Numbers of temporal and of spatial tokens."""
    return NUM_FRAMES, layout.people * layout.joints


def _first_layers(hidden_size: int, layout: FrameLayout) -> int:
    """Both first layers of a modality's embedding."""
    frames, joints = _tokens(layout)
    return 2 * hidden_size * (frames * layout.size + joints * NUM_FRAMES * layout.coordinates)


def _projection(hidden_size: int) -> int:
    width = 2 * hidden_size
    return 2 * (2 * width**2 + width * PROJECTION_SIZE)

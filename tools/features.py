"""Features of a frozen encoder, computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from feeder.augment import evaluation_view
from feeder.clips import ClipSource
from feeder.modalities import MODALITIES, to_tokens
from models.encoder import Backbone
from tools.logs import progress

BATCH_SIZE = 256


def modalities_of(name: str) -> tuple[str, ...]:
    """What `--modality` means: `all` is the three of them, fused."""
    return MODALITIES if name == "all" else (name,)


@torch.no_grad()
def extract_features(
    backbone: Backbone, source: ClipSource, modalities: Sequence[str], device: torch.device, title: str = "features"
) -> Tensor:
    """Features of a split's whole clips, without augmentation: float32 (N, 2·hidden) on `device`.

    One modality is encoded without fusion, several are fused. `backbone` must be in evaluation mode on `device`.
    """
    view = evaluation_view()
    result = torch.empty(len(source), 2 * backbone.hidden_size, device=device)
    for start in progress(range(0, len(source), BATCH_SIZE), desc=title, unit="batch"):
        rows = torch.arange(start, min(start + BATCH_SIZE, len(source)))
        order, lone = source.lone_first(rows)
        clip = view(source.clips(rows[order])).to(device, non_blocking=True)
        result[rows[order]] = backbone({m: to_tokens(clip, m, lone, backbone.parent_values) for m in modalities})
    return result

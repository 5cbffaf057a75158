"""Features of a frozen encoder, computed once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from feeder.augment import evaluation_view
from feeder.clips import ClipSource
from feeder.modalities import MODALITIES, to_tokens
from models.encoder import Backbone
from tools.errors import UserError
from tools.logs import progress

BATCH_SIZE = 256


def modality_name(text: str) -> str:
    """`--modality`: `all`, one of them, or several joined by `+`, in the order of MODALITIES. For argparse."""
    parts = text.split("+")
    if text != "all" and (unknown := [p for p in parts if p not in MODALITIES]):
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no modality: give all, {', '.join(MODALITIES)}, or several joined as in joint+bone"
        )
    return "all" if text == "all" else "+".join(m for m in MODALITIES if m in parts)


def modalities_of(name: str, trained: Sequence[str] = MODALITIES) -> tuple[str, ...]:
    """What `--modality` means: `all` is the fusion of those that the encoder was `trained` on. Raises UserError for
    others."""
    chosen = tuple(trained) if name == "all" else tuple(name.split("+"))
    untrained = [m for m in chosen if m not in trained]
    if untrained:
        raise UserError(f"--modality {name}: this encoder was pre-trained without {', '.join(untrained)}")
    return chosen


@torch.no_grad()
def extract_features(
    backbone: Backbone,
    source: ClipSource,
    combinations: Sequence[Sequence[str]],
    device: torch.device,
    title: str = "features",
) -> list[Tensor]:
    """Features of a split's whole clips, without augmentation, in one pass over them: for each combination of
    modalities float32 (N, 2·hidden) on `device`.

    One modality is encoded without fusion, several are fused. `backbone` must be in evaluation mode on `device`.
    """
    view = evaluation_view()
    used = [m for m in MODALITIES if any(m in c for c in combinations)]
    results = [torch.empty(len(source), 2 * backbone.hidden_size, device=device) for _ in combinations]
    for start in progress(range(0, len(source), BATCH_SIZE), desc=title, unit="batch"):
        rows = torch.arange(start, min(start + BATCH_SIZE, len(source)))
        order, lone = source.lone_first(rows)
        clip = view(source.clips(rows[order])).to(device, non_blocking=True)
        embedded = {m: backbone.embed(to_tokens(clip, m, lone), m) for m in used}
        for result, combination in zip(results, combinations):
            result[rows[order]] = backbone.encode([embedded[m] for m in combination])
    return results

"""Open a frozen encoder and compute features with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from feeder.clips import ClipDataset, evaluation_view
from feeder.modalities import ModalityTokens
from feeder.modality_names import MODALITIES, modalities_of
from models.checkpoint_files import newest
from models.encoder import Backbone
from models.loading import load, load_backbone, modalities
from tools.utils.errors import UserError
from tools.utils.logs import progress
from tools.utils.options import find_run

BATCH_SIZE = 256
Opened = TypeVar("Opened", bound="FrozenEncoder")


def suffix_of(modality: str) -> str:
    """Return what a modality adds to the names of its files: nothing for `all`."""
    return "" if modality == "all" else f"_{modality}"


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder in evaluation mode on `device`, the path of its checkpoint, and all that the checkpoint holds."""

    backbone: Backbone
    device: torch.device
    path: Path
    state: dict[str, Any]

    @classmethod
    def open(cls: type[Opened], pretrained: Path, device: torch.device) -> Opened:
        """Load the encoder of a checkpoint, or of the last one in a run's folder. Raises CheckpointError."""
        path = newest(find_run(pretrained))
        state = load(path)
        return cls(load_backbone(state, path).to(device), device, path, state)

    def modalities(self, name: str, what: str = "--modality") -> tuple[str, ...]:
        """Return the modalities that a name stands for: `all` are those that the encoder was pre-trained on. Raises
        UserError for a name that it does not know; `what` says where the name was given."""
        trained = modalities(self.state)
        try:
            return modalities_of(name, trained)
        except ValueError as error:
            raise UserError(f"{what} {name}: {error}") from error


def extract_features(
    backbone: Backbone,
    source: ClipDataset,
    combinations: Sequence[Sequence[str]],
    device: torch.device,
    title: str = "features",
) -> list[Tensor]:
    """Compute the features of whole clips, without augmentation: for each combination of modalities float32
    (N, 2·hidden) on `device`.

    One modality is encoded without fusion, several are fused; all combinations take one pass over the clips. `backbone`
    must be in evaluation mode on `device`.
    """
    results = [torch.empty(len(source), 2 * backbone.hidden_size, device=device) for _ in combinations]
    batches = feature_batches(backbone, source, combinations, device)
    for rows, features in progress(batches, desc=title, unit="batch", total=-(-len(source) // BATCH_SIZE)):
        for result, feature in zip(results, features):
            result[rows] = feature
    return results


@torch.no_grad()
def feature_batches(
    backbone: Backbone, source: ClipDataset, combinations: Sequence[Sequence[str]], device: torch.device
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Compute the same in batches: yields their rows of the source, and for each combination float32 (B, 2·hidden)."""
    tokens = ModalityTokens(source.layout).to(device)
    used = [m for m in MODALITIES if any(m in c for c in combinations)]
    for start in range(0, len(source), BATCH_SIZE):
        rows = slice(start, min(start + BATCH_SIZE, len(source)))
        clip = evaluation_view(source.clips(rows)).to(device, non_blocking=True)
        of_modality = tokens(clip, used)
        yield rows, [backbone({m: of_modality[m] for m in c}) for c in combinations]

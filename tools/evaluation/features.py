"""Open a frozen encoder and compute features with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import has_mapping
from feeder.clips import ClipDataset, evaluation_view
from feeder.layout import FrameLayout
from feeder.modalities import ModalityTokens
from feeder.modality_names import MODALITIES, Streams, modalities_of, streams_of
from models.checkpoint_files import in_folder, progress_of, stem_of
from models.encoder import Backbone
from models.loading import CLASSIFIER, load_backbone, load_newest, modalities, takes_centred
from tools.utils.checkpoints import check_layout
from tools.utils.errors import UserError
from tools.utils.logs import progress
from tools.utils.options import find_run

BATCH_SIZE = 256
LARGEST = 1e15  # of a feature or a classifier's weight: products of two can be added up in float32
_NOT_CENTRED = "people in {} are not centred, but the encoder was trained on centred ones: scores may suffer"
Opened = TypeVar("Opened", bound="FrozenEncoder")
Named = TypeVar("Named")


def suffix_of(representation: str) -> str:
    """Return a representation's suffix in file names: empty for `all`, `_centred` for `all_centred`."""
    return "" if representation == "all" else "_" + representation.removeprefix("all_")


def result_name(task: str, where: str, modality: str) -> str:
    """Return the name of a result's files: its task, `where` (unusual encoder or data), the modality."""
    return task + where + suffix_of(modality)


@dataclass(frozen=True)
class FrozenEncoder:
    """Hold an encoder in evaluation mode on `device`, its checkpoint's path and contents, and whether that was
    the run's last one when it was opened: pre-training may go on meanwhile."""

    backbone: Backbone
    device: torch.device
    path: Path
    state: dict[str, Any]
    is_last: bool

    @classmethod
    def open(cls: type[Opened], pretrained: str | Path, device: torch.device) -> Opened:
        """Load the encoder of a checkpoint, or of the last one of a run, given as in `find_run`. Raises UserError if it
        does not exist, CheckpointError if it cannot be read."""
        place = find_run(pretrained)
        path, state = load_newest(place)
        # A folder's checkpoint was the newest one when it was chosen; pre-training may have saved others since.
        run = [path] if place.is_dir() else in_folder(path.parent)
        is_last = path in run[:1] or not run
        return cls(load_backbone(state, path).to(device), device, path, state, is_last and CLASSIFIER not in state)

    @property
    def layout(self) -> FrameLayout:
        """Return the frame layout that it takes."""
        return self.backbone.layout

    @property
    def takes_centred(self) -> bool:
        """Return whether it takes centred and aligned people."""
        return takes_centred(self.state, self.layout)

    def adapt(self, packed: PackedDataset) -> tuple[PackedDataset, str]:
        """Adapt a data set to the encoder's people and joints. Return it, and a message about it. Raises UserError or
        DataSetError if it cannot be adapted."""
        own, said = FrameLayout.of_dataset(packed), ""
        every = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device("cpu"))
        if self.takes_centred and own.skeleton.centre is not None and not every.is_centred():
            said = _NOT_CENTRED.format(packed.path)
        if own == self.layout:
            return packed, said
        if own.coordinates != self.layout.coordinates or (
            own.skeleton != self.layout.skeleton and not has_mapping(own.skeleton, self.layout.skeleton)
        ):
            check_layout(self.layout, self.path, own, packed.path)
        done = f"{own} taken as {self.layout}"
        return packed.adapted(self.layout.skeleton, self.layout.people), f"{done}; {said}" if said else done

    @property
    def where(self) -> str:
        """Return its suffix in the names of result files: empty for a run's last checkpoint, `_epoch40` for an earlier
        one, `_of_finetune` for other weights."""
        if self.is_last:
            return ""
        done = progress_of(self.path)
        return f"_epoch{done[0]}" if done else f"_of_{stem_of(self.path)}"

    def modalities(self, name: str, what: str = "--modality") -> tuple[str, ...]:
        """Return the modalities that a name stands for; `all` means those of pre-training. Raises UserError if the
        encoder does not have them; `what` is the option that gave the name."""
        return self._named(modalities_of, name, what)

    def streams(self, name: str, what: str = "--modality") -> Streams:
        """Return the streams that a name of --modality stands for: several for `ensemble`. Raises UserError if the
        encoder does not have them."""
        return self._named(streams_of, name, what)

    def _named(self, meaning: Callable[[str, tuple[str, ...]], Named], name: str, what: str) -> Named:
        try:
            return meaning(name, modalities(self.state))
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
    must be in evaluation mode on `device`. Raises UserError as `check_features`.
    """
    results = [torch.empty(len(source), 2 * backbone.hidden_size, device=device) for _ in combinations]
    batches = feature_batches(backbone, source, combinations, device)
    for rows, features in progress(batches, desc=title, unit="batch", total=-(-len(source) // BATCH_SIZE)):
        for result, feature in zip(results, features):
            result[rows] = feature
    check_features(results)
    return results


def check_features(features: Iterable[Tensor]) -> None:
    """Raise UserError if features are NaN or too large to be compared."""
    if not all(bool((feature.abs() < LARGEST).all()) for feature in features):
        raise UserError("features are not finite or too large, as the checkpoint's weights or the coordinates are")


@torch.no_grad()
def feature_batches(
    backbone: Backbone, source: ClipDataset, combinations: Sequence[Sequence[str]], device: torch.device
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Compute the same in batches. Yield their rows in the source, and float32 (B, 2·hidden) for each combination."""
    tokens = ModalityTokens(source.layout).to(device)
    used = [m for m in MODALITIES if any(m in c for c in combinations)]
    for start in range(0, len(source), BATCH_SIZE):
        rows = slice(start, min(start + BATCH_SIZE, len(source)))
        clip = evaluation_view(source.clips(rows)).to(device, non_blocking=True)
        of_modality = tokens(clip, used)
        yield rows, [backbone({m: of_modality[m] for m in c}) for c in combinations]

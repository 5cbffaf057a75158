"""Read the recordings that a program is given: a packed data set, or folders, zip archives and single files."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_gen.class_names import class_label
from data_gen.packed.names import parse_name
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.raw.number_lines import SkeletonError
from data_gen.raw.recordings import SUFFIX, Recording, convert_all, find_recordings
from data_gen.raw.workers import num_cores
from feeder.clips import ClipDataset
from feeder.layout import NTU_LAYOUT, FrameLayout
from tools.evaluation.features import BATCH_SIZE, FrozenEncoder, feature_batches
from tools.utils.checkpoints import check_layout
from tools.utils.encoder_options import PLACES
from tools.utils.errors import UserError
from tools.utils.logs import progress
from tools.utils.options import classes_of


class Features(NamedTuple):
    """Names, labels int64 (B,), −1 where a name tells none, and features (B, D) of some recordings."""

    names: list[str]
    labels: np.ndarray
    feature: Tensor


class RecordingsInput:
    """The recordings in `places`: one packed data set, or what `find_recordings` finds.

    While they are read, `bad` fills with those that cannot be, and why. Raises UserError where there are none,
    DataSetError for a damaged data set.
    """

    def __init__(self, places: list[Path]):
        self.bad: dict[str, str] = {}
        self._place = places[0]
        self._layout = NTU_LAYOUT  # of .skeleton files
        self._packed: PackedDataset | None = None
        self._found: list[Recording] = []
        packed = [place for place in places if (place / INFO).is_file()]
        if packed and len(places) > 1:
            raise UserError(f"{packed[0]} is a packed data set: give it by itself")
        if packed:
            self._packed = PackedDataset(packed[0])
            self._layout = FrameLayout.of_dataset(self._packed)
        else:
            self._found = _find(places)

    def __len__(self) -> int:
        return len(self._found) if self._packed is None else len(self._packed)

    @property
    def classes(self) -> list[str]:
        """The names of a packed data set's classes, by label; none for other recordings."""
        return [] if self._packed is None else classes_of(self._packed)

    @property
    def identity(self) -> str:
        """By what a packed data set is known again: its name and the fingerprint of its recordings; else empty."""
        if self._packed is None:
            return ""
        ((_, clips),) = self.parts(torch.device("cpu"))
        return f"{self._packed.name} {clips.fingerprint()}"

    def features(self, encoder: FrozenEncoder, chosen: tuple[str, ...], only_whole: bool = False) -> Iterator[Features]:
        """Compute the features of all that can be read, for one combination of modalities, batch by batch.

        With `only_whole`, recordings after the first that cannot be read are only checked.
        """
        check_layout(encoder.backbone.layout, encoder.path, self._layout, self._place)
        with progress((), total=len(self), desc="features", unit="recording", disable=len(self) <= BATCH_SIZE) as bar:
            for names, source in self.parts(encoder.device):
                if not (only_whole and self.bad):
                    for rows, (feature,) in feature_batches(encoder.backbone, source, [chosen], encoder.device):
                        yield Features(names[rows], source.label[rows].cpu().numpy(), feature)
                        bar.update(len(feature))

    def parts(self, device: torch.device) -> Iterator[tuple[list[str], ClipDataset]]:
        """Yield the names and clips of all that can be read, some at a time."""
        if self._packed is not None:
            every = np.arange(len(self._packed))
            yield self._packed.names.tolist(), ClipDataset.of_dataset(self._packed, every, device)
            return
        converted = zip(self._found, self._convert())
        while part := list(islice(converted, BATCH_SIZE)):
            self.bad |= {str(r): str(people) for r, people in part if isinstance(people, SkeletonError)}
            good = [(r.stem, people) for r, people in part if not isinstance(people, SkeletonError)]
            if good:
                names, people = zip(*good)
                frames, num_frame = torch.from_numpy(np.concatenate(people)), np.array([len(p) for p in people])
                yield list(names), ClipDataset(frames, num_frame, np.array([label_of(name) for name in names]))

    def _convert(self) -> Iterator[np.ndarray | SkeletonError]:
        try:
            yield from convert_all(self._found, num_cores())
        except BrokenProcessPool as error:
            raise UserError("a worker that reads recordings was killed, perhaps for want of memory") from error


def _find(places: list[Path]) -> list[Recording]:
    try:
        found, repeated = find_recordings(places)
    except zipfile.BadZipFile as error:
        raise UserError(f"{error}; what is read: {PLACES}") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    if not found:
        raise UserError(f"no {SUFFIX} recording in {', '.join(map(str, places))}")
    if repeated:
        print(f"warning: {repeated} found a second time, taken from the first place", file=sys.stderr)
    return found


def label_of(name: str) -> int:
    """Return the label that a recording's name tells, counted from 0, or −1."""
    try:
        return parse_name(name).label
    except ValueError:
        return -1


def action_of(label: int, classes: Sequence[str]) -> dict[str, str | None]:
    """Describe a label: `action` as A001, and `name`, its name among the `classes`; None for what is unknown, both for
    the label −1."""
    if label < 0:
        return {"action": None, "name": None}
    return {"action": class_label(label), "name": classes[label] if label < len(classes) else None}

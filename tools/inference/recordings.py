"""Compute features of a program's input recordings, and print its answers."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_gen.datasets import class_label, classes_of
from data_gen.packed.reader import INFO, UNLABELLED, PackedDataset
from data_gen.raw.conversion import reason_lines
from data_gen.raw.normalise import ADDED, DROPPED, EMPTY, MAPPED, NORMALISED, UNITS, in_unit
from data_gen.raw.recordings import Recording, find_inputs, prepare_all
from feeder.clips import ClipDataset
from models.frozen import BATCH_SIZE, FrozenEncoder
from utils.errors import UserError
from utils.logs import progress
from utils.processes import num_cores
from utils.text import counted, first_names, table

_ADAPTATIONS = {
    MAPPED: "joints mapped onto {skeleton}",
    NORMALISED: "raw people centred and aligned",
    DROPPED: "more people than the encoder takes ({people}); the others are left out",
    ADDED: "fewer than {people}; absent ones are zeros",
}
_DOUBTS = {
    EMPTY: "no person in any frame; answers are meaningless",
    **{unit: in_unit(unit) for unit in UNITS},
}
Answer = list[dict[str, Any]]  # a recording's rows, best first; a row maps columns to values


class Features(NamedTuple):
    """Names, labels (from 0; −1: unknown) and features, float32 (B, D) on the encoder's device, of B recordings."""

    names: list[str]
    labels: list[int]
    features: Tensor


class Recordings:
    """The recordings in `places`, adapted to an encoder: one packed data set, or files, folders and zip archives.

    class_names: by label; empty if unknown. data: identifies a packed data set's recordings; else empty. unreadable:
    reasons by recording; `features` fills it.
    """

    def __init__(self, places: Sequence[Path], encoder: FrozenEncoder, skeleton: str | None = None):
        """`.csv` and `.npy` files have the joints of `skeleton` (name or file), else of the skeleton.json beside them,
        else the encoder's."""
        self.encoder = encoder
        self.class_names: list[str] = []
        self.data = ""
        self.unreadable: dict[str, str] = {}
        self._packed: PackedDataset | None = None
        self._files: list[Recording] = []
        packed = [place for place in places if (place / INFO).is_file()]
        if packed and len(places) > 1:
            raise UserError(f"{packed[0]}: is a packed data set; give it alone")
        if packed:
            self._open(packed[0])
        else:
            inputs = find_inputs(list(places), skeleton, encoder.layout.skeleton)
            self._files, self.class_names = inputs.recordings, inputs.class_names
            for text in inputs.notes:
                _print("note", text)

    def _open(self, place: Path) -> None:
        packed = PackedDataset(place)
        if packed.segments is not None:
            raise UserError(f"{place}: holds long recordings, not clips; tools.timeline takes them")
        if packed.class_names != [UNLABELLED]:
            self.class_names = classes_of(packed)
        every = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device("cpu"))
        self.data = f"{packed.name} {every.fingerprint()}"
        if empty := packed.info.get("without_a_body"):
            _print("warning", f"{_DOUBTS[EMPTY]}: {first_names(empty)}")
        self._packed, note = self.encoder.adapt(packed)
        if note:
            _print("note", note)

    def features(self) -> Iterator[Features]:
        """Compute the features of all readable recordings batch by batch, several streams' concatenated. At the end,
        print how files were adapted, and which are doubtful."""
        parts = self._read_files() if self._packed is None else self._slice(self._packed)
        batches = -(-len(self._packed or self._files) // BATCH_SIZE)
        if batches > 1:
            parts = progress(parts, total=batches, desc="features", unit="batch")
        for names, labels, source in parts:
            yield Features(names, labels, torch.cat(self.encoder.features(source), 1))

    def all_features(self, skip_bad: bool = False) -> Features:
        """Compute the features of all recordings, on the CPU. Raises UserError for unreadable ones; with `skip_bad`, if
        none is readable."""
        batches = [batch._replace(features=batch.features.cpu()) for batch in self.features()]
        if not skip_bad or not batches:
            self.check()
        names = [name for batch in batches for name in batch.names]
        labels = [label for batch in batches for label in batch.labels]
        return Features(names, labels, torch.cat([batch.features for batch in batches]))

    def check(self) -> None:
        """Raise UserError, which lists them, if recordings could not be read."""
        if self.unreadable:
            raise UserError("\n".join(reason_lines(self.unreadable, "")))

    def _slice(self, packed: PackedDataset) -> Iterator[tuple[list[str], list[int], ClipDataset]]:
        every = np.arange(len(packed))
        source = ClipDataset.of_dataset(packed, every, self.encoder.device)
        labels = packed.label if self.class_names else np.full_like(packed.label, -1)
        for start in range(0, len(packed), BATCH_SIZE):
            indices = every[start : start + BATCH_SIZE]
            yield packed.names[indices].tolist(), labels[indices].tolist(), source.others(packed, indices)

    def _read_files(self) -> Iterator[tuple[list[str], list[int], ClipDataset]]:
        layout, adapted = self.encoder.layout, defaultdict(list)
        results = zip(self._files, prepare_all(self._files, num_cores(), layout, self.encoder.takes_centred))
        while batch := list(islice(results, BATCH_SIZE)):
            readable = []
            for file, result in batch:
                if isinstance(result, UserError):
                    self.unreadable[str(file)] = str(result)
                    continue
                people, adaptations = result
                readable.append((file.name, file.label, people))
                for adaptation in adaptations:
                    adapted[adaptation].append(file.name)
            if readable:
                names, labels, clips = map(list, zip(*readable))
                frames, num_frame = torch.from_numpy(np.concatenate(clips)), np.array([len(clip) for clip in clips])
                yield names, labels, ClipDataset(frames, num_frame, np.array(labels), layout=layout)
        words = {"skeleton": layout.skeleton.name, "people": counted(layout.people, "person")}
        for adaptation, text in _ADAPTATIONS.items():
            if names := adapted[adaptation]:
                _print("note", f"{text.format(**words)} ({counted(len(names), 'recording')})")
        for doubt, text in _DOUBTS.items():
            if names := adapted[doubt]:
                _print("warning", f"{text}: {first_names(names)}")


def _print(kind: str, text: str) -> None:
    print(f"{kind}: {text}", file=sys.stderr)


def action_of(label: int, classes: Sequence[str]) -> dict[str, str | None]:
    """Describe a label: `action` as A001, and `name` among the `classes`; None if unknown."""
    action = None if label < 0 else class_label(label)
    name = classes[label] if 0 <= label < len(classes) else None
    return {"action": action, "name": None if name == action else name}


def print_answers(
    recordings: Recordings, answer: Callable[[Features], list[Answer]], title: str, as_json: bool
) -> None:
    """Print the answer to each recording, as a table or as a line of JSON with the rows under `title`. Raises UserError
    for unreadable recordings, after the answers to the others."""
    for batch in recordings.features():
        for name, rows in zip(batch.names, answer(batch)):
            print(json.dumps({"recording": name, title: rows}) if as_json else _format(name, rows), flush=True)
    recordings.check()


def _format(name: str, rows: Answer) -> str:
    """Format a recording's name and a table of its numbered rows, without empty columns."""
    if not rows:
        return f"{name}\n(nothing)\n"
    columns = [key for key in rows[0] if any(row[key] is not None for row in rows)]
    cells = [[f"{v:.4f}" if isinstance(v, float) else v or "" for v in map(row.get, columns)] for row in rows]
    return f"{name}\n" + table(["", *columns], [[str(rank), *row] for rank, row in enumerate(cells, 1)]) + "\n"

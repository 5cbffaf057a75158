"""What a frame holds: skeleton, number of people and of coordinates. The sizes of tokens follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data_gen.packed.reader import FRAME_SHAPE, PackedDataset
from data_gen.packed.words import counted
from data_gen.skeletons import KINECT_V2, MAX_PEOPLE, Skeleton


@dataclass(frozen=True)
class FrameLayout:
    """Skeleton, people and coordinates of a frame; by default those of NTU RGB+D and the published checkpoints."""

    skeleton: Skeleton = KINECT_V2
    people: int = FRAME_SHAPE[0]
    coordinates: int = FRAME_SHAPE[2]

    @property
    def joints(self) -> int:
        return len(self.skeleton.joints)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.people, self.joints, self.coordinates

    @property
    def size(self) -> int:
        """Return the number of values in a frame, the size of a temporal token."""
        return self.people * self.joints * self.coordinates

    def parent_values(self) -> Tensor:
        """Return the index of the parent joint's value, for each value of a frame: int64 (M·V·C,)."""
        places = torch.arange(self.size).view(self.shape)
        return places[:, list(self.skeleton.parents)].flatten()

    def __str__(self) -> str:
        people, joints = counted(self.people, "person"), counted(self.joints, "joint")
        return f"{self.skeleton.name} ({joints}, {people}, {self.coordinates} coordinates)"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for `from_json`."""
        return {"skeleton": self.skeleton.to_json(), "people": self.people, "coordinates": self.coordinates}

    @classmethod
    def of_dataset(cls, dataset: PackedDataset) -> FrameLayout:
        """Return the layout of a packed data set's frames."""
        people, _, coordinates = dataset.shape
        return cls(dataset.skeleton, people, coordinates)

    @classmethod
    def from_json(cls, found: object) -> FrameLayout:
        """Read what `to_json` returns. Raises ValueError for anything else."""
        if not isinstance(found, dict):
            raise ValueError("not an object with skeleton, people and coordinates")
        people, coordinates = found.get("people"), found.get("coordinates")
        if type(people) is not int or type(coordinates) is not int:
            raise ValueError("people and coordinates are not whole numbers")
        if not 1 <= people <= MAX_PEOPLE or coordinates not in (2, 3):
            raise ValueError(f"{people} people of {coordinates} coordinates")
        return cls(Skeleton.from_json(found.get("skeleton")), people, coordinates)


NTU_LAYOUT = FrameLayout()

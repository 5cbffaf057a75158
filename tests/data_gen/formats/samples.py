"""Small data sets of several skeletons, and commands on them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from data_gen import export_dataset, import_dataset
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.packed.writer import packing
from data_gen.skeletons import SKELETONS
from utils.errors import UserError

KINDS = {  # the data set's name, its skeleton, people, coordinates
    "25 joints": ("demo", "kinect_v2", 2, 3),
    "20 joints": ("own", "kinect_v1", 1, 3),
    "17 joints": ("flat", "coco", 2, 2),
}
CLASSES = 12
OWN = ("--name", "own")


def make_packed(folder: Path, kind: str = "25 joints", longest: int = 12) -> PackedDataset:
    """Twelve recordings, normalised as far as their centres go; one has nobody in it, one an end of zeros, and values
    that rounding would show."""
    dataset, skeleton_name, people, coordinates = KINDS[kind]
    skeleton, rng = SKELETONS[skeleton_name], np.random.default_rng(7)
    names = [f"S001C{c:03}P{p:03}R001A{a:03}" for c in (1, 2) for p in (1, 3) for a in (1, 2, 12)]
    shape = (people, len(skeleton.joints), coordinates)
    by_split = {"train": [i for i, name in enumerate(names) if "P001" in name]}
    splits = {"xsub": by_split | {"val": [i for i in range(12) if i not in by_split["train"]]}}
    if dataset == "demo":
        splits["xview"] = {"train": list(range(6, 12)), "val": list(range(6))}
    with packing(folder, shape) as writer:
        for i, name in enumerate(names):
            clip = rng.normal(size=(int(rng.integers(3, longest)), *shape)).astype(np.float32) * np.float32(1 / 3)
            clip[0, -1, 0] = np.float32(1e-30), *[np.float32(-0.0)] * (coordinates - 1)
            clip[:, 0, skeleton.centre] = 0
            if i == 4:
                clip[:] = 0
            if i == 5:
                clip[-2:] = 0
            writer.add(name, int(name[-3:]) - 1, clip)
        info = {"dataset": dataset, "title": "simulated demo" if dataset == "demo" else dataset, "classes": CLASSES}
        info |= {"skeleton": skeleton.to_json(), "made": {"here": "x"}}
        writer.finish(splits, info)
    return PackedDataset(folder)


def flags(kind: str) -> list[str]:
    """What tells the importing command of such a data set what it is."""
    dataset, skeleton, _, _ = KINDS[kind]
    return ["--dataset", "demo"] if dataset == "demo" else ["--name", dataset, "--skeleton", skeleton]


def assert_same(packed: PackedDataset, folder: Path) -> None:
    """Every array is the same byte for byte, and dataset.json but for how it was made."""
    files = sorted(path.name for path in packed.path.glob("*.npy"))
    assert files == sorted(path.name for path in folder.glob("*.npy")) and len(files) >= 6
    for name in files:
        assert (folder / name).read_bytes() == (packed.path / name).read_bytes(), name
    before, after = (json.loads((path / INFO).read_text()) for path in (packed.path, folder))
    before["made"] = after["made"] = None
    assert before == after


def export(*arguments: object) -> None:
    export_dataset.main([str(argument) for argument in arguments])


def bring(*arguments: object) -> None:
    import_dataset.main([str(argument) for argument in arguments])


def refused(out: Path, where: object, *arguments: object, main=import_dataset.main) -> None:
    """The importing (or another) command ends with an error that contains `where` (or matches this pattern), and
    writes nothing."""
    existed = out.exists()
    with pytest.raises(UserError, match=where if isinstance(where, re.Pattern) else re.escape(str(where))) as error:
        main([*map(str, arguments), "--out", str(out)])
    assert "\n" not in str(error.value)
    assert existed or not out.exists()

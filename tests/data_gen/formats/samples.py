"""Small data sets of several skeletons, and commands on them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from data_gen import export_dataset, import_dataset
from data_gen.packed.reader import INFO, PackedDataset
from data_gen.packed.writer import packing
from data_gen.skeletons import SKELETONS
from tests.programs import status_of

KINDS = {  # the data set's name, its skeleton, people, coordinates
    "25 joints": ("demo", "kinect_v2", 2, 3),
    "20 joints": ("own", "kinect_v1", 1, 3),
    "17 joints": ("flat", "coco", 2, 2),
}
CLASSES = 12


def make_packed(folder: Path, kind: str = "25 joints", longest: int = 12, class_names: bool = False) -> PackedDataset:
    """Twelve recordings, normalised as far as their centres go; one has nobody in it, one an end of zeros, and values
    that rounding would show."""
    dataset, skeleton_name, people, coordinates = KINDS[kind]
    skeleton, rng = SKELETONS[skeleton_name], np.random.default_rng(7)
    names = [f"S001C{c:03}P{p:03}R001A{a:03}" for c in (1, 2) for p in (1, 3) for a in (1, 2, 12)]
    shape = (people, len(skeleton.joints), coordinates)
    sides = {"train": [i for i, name in enumerate(names) if "P001" in name]}
    splits = {"xsub": sides | {"val": [i for i in range(12) if i not in sides["train"]]}}
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
        if class_names:
            info["class_names"] = [f"{'zyx'[i % 3]} move, {i}" for i in range(CLASSES)]
        info |= {"skeleton": skeleton.to_json(), "made": {"here": "x"}} | writer.counts(splits)
        writer.finish(splits, info)
    return PackedDataset(folder)


def flags(kind: str) -> list[str]:
    """What tells the importing command of such a data set what it is."""
    dataset, skeleton, _, _ = KINDS[kind]
    return ["--dataset", "demo"] if dataset == "demo" else ["--name", dataset, "--skeleton", skeleton]


def assert_same(packed: PackedDataset, folder: Path, without: tuple[str, ...] = ()) -> None:
    """Every array is the same byte for byte, and dataset.json but for how it was made."""
    files = sorted(path.name for path in packed.path.glob("*.npy"))
    assert files == sorted(path.name for path in folder.glob("*.npy")) and len(files) >= 6
    for name in files:
        assert (folder / name).read_bytes() == (packed.path / name).read_bytes(), name
    before, after = (json.loads((path / INFO).read_text()) for path in (packed.path, folder))
    for key in ("made", *without):
        before.pop(key, None)
        after.pop(key, None)
    assert before == after


def export(*arguments: object) -> None:
    assert status_of(export_dataset.main, [str(argument) for argument in arguments]) == 0


def bring(*arguments: object) -> None:
    assert status_of(import_dataset.main, [str(argument) for argument in arguments]) == 0


def refused(capsys: pytest.CaptureFixture, out: Path, message: str, *arguments: object, to: bool = False) -> None:
    """The importing command (`to`: the exporting one) ends with the message, in one line, and writes nothing."""
    existed = out.exists()
    capsys.readouterr()
    main = export_dataset.main if to else import_dataset.main
    assert status_of(main, [*map(str, arguments), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out
    assert message in said.err, said.err
    if not existed:
        assert not out.exists() or out.is_dir() and not os.listdir(out)

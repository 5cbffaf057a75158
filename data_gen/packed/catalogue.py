"""Find data sets in a data root: published ones, perhaps with added protocols, and users' own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_gen import recipes
from data_gen.datasets import DATASETS, UNTRIMMED, DataSet, Protocol, nearest_first
from data_gen.packed.info import ALL, INFO, DataSetError, read_info


def packed_in(root: Path) -> dict[str, Path]:
    """Find the packed data sets in `root`, or `root` itself: folders by name. If several data sets have one name, the
    folder of that name is taken."""
    return {name: folder for name, (folder, _) in _found(root).items()}


def _found(root: Path) -> dict[str, tuple[Path, dict]]:
    folders = [root] if (root / INFO).is_file() else sorted(path.parent for path in root.glob(f"*/{INFO}"))
    found: dict[str, tuple[Path, dict]] = {}
    for folder in folders:
        try:
            info = read_info(folder / INFO)
        except DataSetError:  # opening the data set tells why
            continue
        name = info["dataset"]
        if name not in found or folder.name == name:
            found[name] = folder, info
    return found


def row_of(info: dict) -> DataSet:
    """Make a data set's row from its dataset.json: the table's row or a new one, with added protocols. Long recordings
    of a data set in the table have the protocols of its clips, with their long names."""
    row = DATASETS.get(info["dataset"])
    if row is None:
        clips = DATASETS.get(info["dataset"].removesuffix(UNTRIMMED))
        same = (
            [replace(p, published_counts=None) for p in clips.protocols if p.name in info["protocols"]] if clips else []
        )
        row = DataSet(info["dataset"], info.get("title", info["dataset"]), info["classes"], protocols=tuple(same))
    recipe = row.protocols[0].recipe if row.protocols else recipes.OWN
    listed = {protocol.name for protocol in row.protocols}
    added = tuple(Protocol(name, name, recipe) for name in (*info["protocols"], ALL) if name not in listed)
    return replace(row, protocols=row.protocols + added)


def rows_in(root: Path) -> dict[str, DataSet]:
    """Return all known data sets by name: the table's and those in `root`."""
    return DATASETS | {name: row_of(info) for name, (_, info) in _found(root).items()}


def find_dataset(name: str, rows: dict[str, DataSet], root: Path) -> DataSet:
    """Return the row called `name`. Raises ValueError, which lists known names and those in `root`, or DataSetError if
    it is there but damaged."""
    if name not in rows:
        if (root / name / INFO).is_file():
            read_info(root / name / INFO)
        raise ValueError(f"unknown data set {name!r}; known, with those in {root}: {nearest_first(name, rows)}")
    return rows[name]

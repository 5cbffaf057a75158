"""The data sets that a data root holds: those of the table, with protocols added to them, and users' own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_gen import recipes
from data_gen.datasets import DATASETS, DataSet, Protocol
from data_gen.packed.info import INFO, DataSetError, read_info


def packed_in(root: Path) -> dict[str, Path]:
    """Folder of each packed data set that `root` holds, or is, by its name. Of several, the one that is called so."""
    folders = [root] if (root / INFO).is_file() else sorted(path.parent for path in root.glob(f"*/{INFO}"))
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            name = read_info(folder / INFO)["dataset"]
        except DataSetError:  # opening it tells why
            continue
        if name not in found or folder.name == name:
            found[name] = folder
    return found


def row_of(info: dict) -> DataSet:
    """The row of a data set by its dataset.json: the table's and the protocols that were added, or one of its own."""
    row = DATASETS.get(info["dataset"])
    if row is None:
        row = DataSet(info["dataset"], info.get("title", info["dataset"]), info["classes"])
    recipe = row.protocols[0].recipe if row.protocols else recipes.OWN
    listed = {protocol.name for protocol in row.protocols}
    added = tuple(Protocol(name, name, recipe) for name in info["protocols"] if name not in listed)
    return replace(row, protocols=row.protocols + added)


def rows_in(root: Path) -> dict[str, DataSet]:
    """Every known data set: the table's and those in `root`."""
    return DATASETS | {name: row_of(read_info(folder / INFO)) for name, folder in packed_in(root).items()}


def find_dataset(name: str, rows: dict[str, DataSet], root: Path) -> DataSet:
    """The row called `name`. Raises ValueError naming the known ones, and those that `root` holds."""
    if name not in rows:
        own = ", ".join(other for other in rows if other not in DATASETS)
        known = ", ".join(DATASETS)
        raise ValueError(f"unknown data set {name!r}; known: {known}; in {root}: {own or 'no others'}")
    return rows[name]

"""Keep a result that a new one would overwrite: add its date and time to the names of its files."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from data_gen.packed.atomic import check_replaceable
from models.loading import CheckpointError, load_plain
from tools.utils.errors import UserError
from tools.utils.result_files import read_result, reading, settings_of

_ENDINGS = (".json", ".pth.tar", "_best.pth.tar", "_predictions.csv")


def earlier_result(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the result called `name`, or None if it is missing or cannot be read."""
    try:
        return read_result(folder / f"{name}.json") or None
    except UserError:
        return None


def check_results(folder: Path, task: str) -> None:
    """Raise OSError if something else than a file has the name of one that a task writes."""
    check_replaceable(*(p for p in folder.iterdir() if p.name.startswith(task) and p.name.endswith(_ENDINGS)))


def set_aside(folder: Path, name: str, settings: dict[str, Any]) -> None:
    """Rename the files of the result called `name` if it exists with other settings. For few labels, also rename the
    models of its fractions. Raises UserError if it is damaged."""
    result = earlier_result(folder, name)
    earlier = settings_of(result) if result else _settings_of_model(folder / f"{name}.pth.tar")
    if earlier == settings:
        return
    with reading(folder / f"{name}.json"):
        shares = (result or {}).get("fractions", [])
        names = dict.fromkeys([name, *(f"{name}_{share['fraction']:g}" for share in shares)])
    paths = [path for each in names for end in _ENDINGS if (path := folder / f"{each}{end}").is_file()]
    if result is None:  # an unreadable result is useless
        paths = [path for path in paths if path.suffix != ".json"]
    if not paths:
        return
    date = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(paths[0].stat().st_mtime))
    kept, number = f"{name}_{date}", 1
    while any(path.name.startswith(kept) for path in folder.iterdir()):
        number += 1
        kept = f"{name}_{date}_{number}"
    for path in paths:
        path.rename(folder / (kept + path.name.removeprefix(name)))
    differing = ", ".join(k for k in settings if earlier and (k not in earlier or earlier[k] != settings[k]))
    unknown = "of the run before" if earlier else "of unknown origin"
    why = f"made with other settings ({differing})" if differing else unknown
    logging.getLogger("umurl").info(f"an earlier {name}, {why}, is kept as {kept}")


def set_all_aside(folder: Path) -> None:
    """Rename the files of all results of a run that starts anew."""
    for path in sorted(folder.glob("*.json")):
        if (earlier_result(folder, path.stem) or {}).get("task") == path.stem:  # else renamed already, or no result
            set_aside(folder, path.stem, {})


def _settings_of_model(path: Path) -> dict[str, Any] | None:
    try:
        told = load_plain(path).get("finetuned")
    except CheckpointError:
        return None
    return told.get("settings") if isinstance(told, dict) else None

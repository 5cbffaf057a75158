"""Read the JSON files that evaluations leave in a run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_gen.packed.info import is_plain, parse_json, read_text
from tools.utils.errors import UserError

_MOST = 64 * 2**20  # bytes
# Arguments that influence a result without being in its name, in every task.
RECIPE = (
    *("lr", "epochs", "schedule", "batch_size", "seed", "amp", "knn_neighbours"),
    *("window", "stride", "threshold", "shortest"),
)
_SETUP = ("encoder", "epoch", "dataset", "protocol", "data")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise UserError if an entry of the result at `path` is missing or invalid."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error!r:.200}); evaluate that run again") from error


def read_result(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one for other JSON. Raises UserError if it is damaged."""
    with reading(path):
        result = parse_json(read_text(path, _MOST))
        if not is_plain(result):
            raise ValueError("it is nested too deep")
        return result if isinstance(result, dict) else {}


def results_in(folder: Path, task: str = "") -> Iterator[tuple[Path, dict[str, Any]]]:
    """Read the JSON files of a run whose names begin with `task`, but for one that an evaluation renames meanwhile.
    Raises UserError if one is damaged."""
    for path in sorted(folder.glob(f"{task}*.json")):
        try:
            result = read_result(path)
        except UserError:
            if path.exists():
                raise
        else:
            yield path, result


def settings_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result's settings as plain values: encoder, recordings and recipe. For few labels they exclude the
    seeds, since one file holds rows of several seeds."""
    args = result.get("args")
    args = args if isinstance(args, dict) else {}
    names = [name for name in RECIPE if not (name == "seed" and "fractions" in result)]
    names += ["observed"] * str(result.get("task")).startswith("earliness")
    found = {key: result.get(key) for key in _SETUP} | {name: args[name] for name in names if name in args}
    return json.loads(json.dumps(found, default=str))

"""Read pickles of other projects without running their code.

A pickle is a program that may call whatever it names. Only these names are admitted: those of which numpy's arrays and
numbers are made, and bytes in the pickles of old protocols.
"""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.files import reading

_OF_NUMPY = {  # what numpy itself calls to make them
    "multiarray._reconstruct": np.zeros(1).__reduce__()[0],
    "multiarray.scalar": np.float64(0).__reduce__()[0],
    "numeric._frombuffer": np.zeros(1).__reduce_ex__(5)[0],
}
_ADMITTED: dict[str, Any] = {
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
    "_codecs.encode": codecs.encode,
    "collections.OrderedDict": OrderedDict,
    **{f"{core}.{name}": value for core in ("numpy.core", "numpy._core") for name, value in _OF_NUMPY.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _ADMITTED:
            raise UserError(f"refused: the pickle asks for {module}.{name}, which no data needs; none of it was run")
        return _ADMITTED[f"{module}.{name}"]


def load_pickle(path: Path) -> Any:
    """Read a pickle of plain values and numpy arrays; bytes that Python 2 wrote become text."""
    with reading(path), open(path, "rb") as file:
        return _Unpickler(file, encoding="latin1").load()


def as_list(values: Any) -> list:
    """Convert a list, a tuple or an array of a pickle to a list; bytes in it become text."""
    items = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [item.decode("latin1") if isinstance(item, bytes) else item for item in items]

"""Write features into a NumPy archive."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from data_gen.packed.atomic import atomic_write

from tools.inference.recordings import Features
from tools.utils.errors import UserError


def write_features(out: Path, batches: Iterable[Features], size: int, more: dict[str, Any]) -> int:
    """Write an .npz of `feature` float32 (N, size), `name`, `label` and the entries of `more`. Return N.

    Features pass through a file, so that memory does not grow with N. Raises UserError if there are none.
    """
    names, labels = [], []
    with TemporaryFile(dir=out.parent) as values:
        for batch in batches:
            values.write(batch.feature.cpu().numpy().data)
            names += batch.names
            labels += batch.labels.tolist()
        if not names:
            raise UserError(f"no recording could be read, so there is nothing to write to {out}")
        values.seek(0)
        arrays = {
            "name": np.array(names),
            "label": np.array(labels),
            **{k: np.array(v, np.str_) for k, v in more.items()},
        }
        with atomic_write(out) as partial, zipfile.ZipFile(partial, "w") as archive:
            with archive.open("feature.npy", "w", force_zip64=True) as entry:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), size)}
                np.lib.format.write_array_header_1_0(entry, header)
                shutil.copyfileobj(values, entry)
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
    return len(names)

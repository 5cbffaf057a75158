"""Answer queries for predict and search: for each recording given, or that appears in a folder."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feeder.modality_names import Streams

from data_gen.packed.reader import DataSetError
from tools.evaluation.features import FrozenEncoder
from tools.inference.recordings import Features, RecordingsInput
from tools.inference.watch import appearing
from tools.utils.errors import UserError
from tools.utils.tables import table

# For each recording of a batch, the rows of its answer, best first; a row maps column names to values.
Answer = Callable[[Features], list[list[dict[str, Any]]]]


def answer_queries(
    args: argparse.Namespace, encoder: FrozenEncoder, streams: Streams, title: str, answer: Answer
) -> None:
    """Print the answers for all recordings in the options; with --watch, run until stopped. JSON has the rows under
    `title`.

    Raises UserError if recordings cannot be read, after answering the others; with --watch, only reports them.
    """
    if not args.recordings and not args.watch:
        raise UserError("which recordings? Name some, or a folder by --watch")
    watched, told = appearing(args.watch) if args.watch else iter(()), set[str]()

    def query(places: list[Path]) -> None:
        recordings = RecordingsInput(places, encoder, args.skeleton, told)
        for batch in recordings.features(streams):
            for name, rows in zip(batch.names, answer(batch)):
                text = json.dumps({"recording": name, title: rows}) if args.json else format_answer(name, rows)
                print(text, flush=True)
        if recordings.bad:
            raise UserError("cannot read " + "\n".join(f"{p}: {reason}" for p, reason in recordings.bad.items()))

    if not args.watch:
        query(args.recordings)
        return
    _try_query(query, args.recordings)
    for path in watched:
        _try_query(query, [path])


def _try_query(query: Callable[[list[Path]], None], places: list[Path]) -> None:
    """Answer; report unreadable recordings instead of raising an error."""
    try:
        if places:
            query(places)
    except (UserError, DataSetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)


def format_answer(name: str, rows: list[dict[str, Any]]) -> str:
    """Format a recording's name and a table of its numbered rows, without empty columns."""
    if not rows:
        return f"{name}\n(nothing)\n"
    columns = [key for key in rows[0] if any(row[key] is not None for row in rows)]
    cells = [[f"{v:.4f}" if isinstance(v, float) else v or "" for v in map(row.get, columns)] for row in rows]
    return f"{name}\n" + table(["", *columns], [[str(rank), *row] for rank, row in enumerate(cells, 1)]) + "\n"

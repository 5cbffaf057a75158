"""Format numbers, lists and tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher


def counted(count: int, noun: str) -> str:
    """Format a number of things: `1 epoch`, `1,200 epochs`, `2 people`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} people" if noun == "person" else f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"


def first_names(names: Sequence[str], count: int = 5) -> str:
    """List the first names, five by default."""
    return ", ".join(names[:count]) + (f" and {len(names) - count:,} more" if len(names) > count else "")


def nearest_first(name: str, known: Iterable[str], count: int = 10) -> str:
    """List at most `count` known names, the most similar to a mistyped one first."""
    names = sorted(known, key=lambda other: SequenceMatcher(None, name, other).ratio(), reverse=True)
    return first_names(names, count)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with columns that also line up in a terminal."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)

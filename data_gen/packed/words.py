"""Words in messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Format a number of things: `1 epoch`, `1,200 epochs`, `2 people`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} people" if noun == "person" else f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}"

"""The names of modalities, and of their fusions."""

from __future__ import annotations

from collections.abc import Sequence

MODALITIES = ("joint", "bone", "motion")


def modalities_of(name: str, trained: Sequence[str] = MODALITIES) -> tuple[str, ...]:
    """Parse the name of a modality: `all` fuses those that the encoder was `trained` on, `joint` is one without fusion,
    `joint+bone` fuses several. Return them in the order of MODALITIES. Raises ValueError for another name."""
    parts = name.split("+")
    if name == "all":
        return tuple(trained)
    if unknown := [p for p in parts if p not in MODALITIES]:
        known = ", ".join(MODALITIES)
        raise ValueError(f"{unknown[0]!r} is no modality: give all, {known}, or several joined as in joint+bone")
    if untrained := [p for p in parts if p not in trained]:
        raise ValueError(f"this encoder was pre-trained without {', '.join(untrained)}")
    return tuple(m for m in MODALITIES if m in parts)

"""The names of modalities, of their fusions, and of the ensemble of these."""

from __future__ import annotations

from collections.abc import Sequence

MODALITIES = ("joint", "bone", "motion")
ENSEMBLE = "ensemble"
Streams = tuple[tuple[str, ...], ...]  # the modalities of each of several features


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


def streams_of(name: str, trained: Sequence[str] = MODALITIES) -> Streams:
    """Return the streams whose features a name stands for: one as `modalities_of`; of `ensemble` the fused one and each
    modality's own. Raises ValueError for another name."""
    if name != ENSEMBLE:
        return (modalities_of(name, trained),)
    return tuple(dict.fromkeys([tuple(trained), *((m,) for m in trained)]))

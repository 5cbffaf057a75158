"""Modalities: the one table of names and functions (docs/method.md, 4), and the names of their fusions.

To add a modality, add a function and its row. The module imports no PyTorch, so that options can read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ENSEMBLE = "ensemble"
Stream = tuple[str, ...]  # the modalities of one feature: one alone, or several fused


def joint(clip: Tensor, parents: Tensor) -> Tensor:
    """The clip itself."""
    return clip


def bone(clip: Tensor, parents: Tensor) -> Tensor:
    """Each joint minus its parent."""
    import torch

    # On a CPU, gathering single values along rows is several times faster than selecting joints of three.
    joints = clip.flatten(3)
    coordinates = clip.shape[4]
    index = (parents[:, None] * coordinates + torch.arange(coordinates, device=parents.device)).flatten()
    return (joints - joints.gather(3, index.expand_as(joints))).view_as(clip)


def motion(clip: Tensor, parents: Tensor) -> Tensor:
    """The next frame minus this one; the last is zero."""
    return clip.diff(dim=1, append=clip[:, -1:])


def bone_motion(clip: Tensor, parents: Tensor) -> Tensor:
    """The next frame's bone minus this one's; the last is zero."""
    return motion(bone(clip, parents), parents)


def acceleration(clip: Tensor, parents: Tensor) -> Tensor:
    """The next frame's motion minus this one's; the last two are zero."""
    change = motion(motion(clip, parents), parents)
    change[:, -2:] = 0  # the last motion is no measurement
    return change


# Name → function of a clip, float32 (B, T, M, V, C), and each joint's parent, int64 (V,); the result has the clip's
# shape. The order is that of a fusion's parts.
MODALITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "joint": joint,
    "bone": bone,
    "motion": motion,
    "bone_motion": bone_motion,
    "acceleration": acceleration,
}
PUBLISHED: Stream = ("joint", "bone", "motion")


def derive(clip: Tensor, modalities: Sequence[str], parents: Tensor) -> dict[str, Tensor]:
    """Derive modalities of clips, float32 (B, T, M, V, C), by name."""
    return {name: MODALITIES[name](clip, parents) for name in modalities}


def in_order(names: Sequence[str]) -> Stream:
    """Return names of modalities without repetitions, in the table's order. Raises UserError for an unknown one."""
    if unknown := [name for name in names if name not in MODALITIES]:
        raise UserError(f"{unknown[0]!r} is no modality; there are {', '.join(MODALITIES)}")
    return tuple(name for name in MODALITIES if name in names)


def streams_of(name: str, modalities: Sequence[str] = PUBLISHED) -> tuple[Stream, ...]:
    """Return the streams whose features a name of --modality stands for, of an encoder with these modalities.

    `all` fuses them all, `joint` is one without fusion, `joint+bone` fuses some; `ensemble` is the fused stream and
    each modality's own. Raises UserError for another name, and for a modality that the encoder lacks.
    """
    if name == ENSEMBLE:
        return tuple(dict.fromkeys([tuple(modalities), *((m,) for m in modalities)]))
    if name == "all":
        return (tuple(modalities),)
    stream = in_order(name.split("+"))
    if missing := [m for m in stream if m not in modalities]:
        raise UserError(f"--modality {name}: the encoder has no {', '.join(missing)}, only {', '.join(modalities)}")
    return (stream,)


def name_of(streams: Sequence[Stream], modalities: Sequence[str]) -> str:
    """Return the name of --modality that stands for streams of an encoder with these modalities."""
    if len(streams) > 1:
        return ENSEMBLE
    return "all" if streams[0] == tuple(modalities) else "+".join(streams[0])

"""Adapt checkpoints of the published implementation, and of this project's earlier versions, to today's layout. Only
this module knows their keys (docs/method.md, 8)."""

from __future__ import annotations

import re
from typing import Any

from data_gen.skeletons import NTU_LAYOUT, FrameLayout
from feeder.modalities import PUBLISHED, in_order
from models.checkpoints import hash_of
from utils.errors import UserError

_KINDS = {"t": "temporal", "s": "spatial"}
_LETTERS = {modality[0]: modality for modality in PUBLISHED}
# Key of the published model, without `module.` → today's key.
_KEYS = (
    (r"backbone\.([jbm])_emb\.([ts])_embedding\.(.+)", "encoder.embeddings.{modality}.{kind}.{rest}"),
    (r"backbone\.mm_fusion\.()([ts])_fusion\.0\.(.+)", "encoder.fusion.{kind}.{rest}"),
    (r"backbone\.ma_encoder\.()()pe\.(.+)", "encoder.positions.{rest}"),
    (r"backbone\.ma_encoder\.()([ts])_tr\.layers\.0\.(.+)", "encoder.layers.{kind}.{rest}"),
    (r"([jbm])_projector\.()(.+)", "projectors.{modality}.{rest}"),
)
_FIRST = "backbone.j_emb.t_embedding.0.weight"


def new_key(key: str) -> str:
    """Return today's name of a published model's parameter or buffer."""
    for pattern, name in _KEYS:
        if match := re.fullmatch(pattern, key):
            letter, kind, rest = match.groups()
            return name.format(modality=_LETTERS.get(letter), kind=_KINDS.get(kind), rest=rest)
    return key


def adapt(state: dict[str, Any]) -> dict[str, Any]:
    """Adapt a checkpoint's contents. Parts that no trained modality uses are left out.

    `weights_hash` is the hash that earlier versions computed; their classifiers and galleries refer to it.
    """
    weights = {key.removeprefix("module."): value for key, value in state["state_dict"].items()}
    if _FIRST not in weights:
        raise UserError(f"holds no encoder of this project (no {_FIRST})")
    args = dict(state.get("args", {}))
    modalities = in_order(args.get("pretrain_modalities", PUBLISHED))
    for old, new in (("objective", "method"), ("schedule", "milestones")):
        if old in args:
            args[new] = args.pop(old)
    layout = FrameLayout.from_json(state["body"]) if "body" in state else NTU_LAYOUT
    unused = [f"encoder.embeddings.{m}." for m in PUBLISHED if m not in modalities]
    unused += ["encoder.fusion."] * (len(modalities) == 1)
    adapted = {
        key: value for old, value in weights.items() if not (key := new_key(old)).startswith(tuple(unused) or ("\n",))
    }
    prefix = "backbone."
    backbone = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    encoder = {"name": "transformer", "hidden_size": len(weights[_FIRST]), "modalities": list(modalities)}
    return {
        **{key: value for key, value in state.items() if key not in ("body", "state_dict", "args")},
        "state_dict": adapted,
        "encoder": encoder | {"layout": layout.to_json()},
        "weights_hash": hash_of(backbone),
        **({"args": args} if args else {}),
    }

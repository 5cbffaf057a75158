"""Slim weights, and the card that goes with exported ones: how an encoder was trained and how it scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_gen.packed.atomic import atomic_write
from models.loading import (
    BACKBONE_PREFIX,
    CARD,
    CLASSIFIER,
    NEEDS_SAFETENSORS,
    fingerprint,
    is_plain,
    modalities,
)

from data_gen.datasets import from_test_name
from tools.evaluation.features import FrozenEncoder
from tools.evaluation.linear_classifier import own_classifier
from tools.utils.checkpoints import versions
from tools.utils.errors import UserError
from tools.utils.result_files import read_result

# Arguments of pre-training that tell of the machine, not of the recipe, or stand elsewhere in the card.
_LOCAL = ("checkpoint_path", "data_root", "device", "resume", "save_freq", "keep", "compile", "dataset", "protocol")
# Entries of an evaluation's JSON that the card leaves out: they stand elsewhere in it, or are long.
_ELSEWHERE = ("task", "checkpoint", "encoder", "epoch", "hidden_size", "args", "versions")
_LONG = ("history", "per_class", "rates")


def export_weights(encoder: FrozenEncoder, out: Path) -> Path:
    """Write the encoder's weights (and a fine-tuned one's classifier) to `out`, and the card beside it and in the
    weights' header. Return the card's path. Raises UserError without safetensors."""
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UserError(f"tools.slim {NEEDS_SAFETENSORS}") from error
    tensors = {BACKBONE_PREFIX + key: value.contiguous() for key, value in encoder.backbone.state_dict().items()}
    own = own_classifier(encoder)
    if own:
        tensors |= {f"{CLASSIFIER}.weight": own.weight, f"{CLASSIFIER}.bias": own.bias}
    text = card_text(card_of(encoder))
    card = out.with_suffix(".json")
    if card.exists() and not out.exists():
        raise UserError(f"{card} is there already, and is no card of {out}: choose another name by --out")
    with atomic_write(card) as card_partial, atomic_write(out) as partial:
        card_partial.write_text(text, encoding="utf-8")
        partial.write_bytes(save(tensors, {"format": "pt", CARD: text}))
    return card


def card_of(encoder: FrozenEncoder) -> dict[str, Any]:
    """Make an encoder's card, a dict of plain values: training, scores, and the SHA-256 of the weights; if fine-tuned,
    also its fine-tuning and its classifier's classes.

    The data set is the checkpoint's entry, else its folder's name. Scores come from the JSONs beside the checkpoint
    that belong to these weights. Unknown values are None.
    """
    state, backbone = encoder.state, encoder.backbone
    card = {key: state.get(key) for key in ("dataset", "protocol", "recordings", "epoch")}
    by_name = from_test_name(encoder.path.resolve().parent.name)
    if by_name and not card["dataset"]:
        card |= {"dataset": by_name[0].name, "protocol": by_name[1].name}
    if CLASSIFIER in state:
        told = {key: value for key, value in state[CLASSIFIER].items() if is_plain(value)}
        card |= {"finetuned": state.get("finetuned"), CLASSIFIER: told}
    identity = fingerprint(backbone)
    return card | {
        "hidden_size": backbone.hidden_size,
        "body": backbone.layout.to_json(),
        "centred": encoder.takes_centred,
        "modalities": list(modalities(state)),
        "args": {k: v for k, v in state.get("args", {}).items() if k not in _LOCAL},
        "scores": state.get("scores", {}) | _scores(encoder.path.parent, identity),
        "encoder": identity,
        "versions": state.get("versions", {}),
        "made_with": versions(),
    }


def card_text(card: dict[str, Any]) -> str:
    text = json.dumps(card, indent=1, default=str, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "replace").decode()  # arguments may have paths that are not UTF-8


def _scores(folder: Path, identity: str) -> dict[str, dict]:
    """Collect the scores of each evaluation of these weights in a run's folder, by task."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = read_result(path)
        except UserError:  # tools.results reports it
            continue
        if result.get("encoder") == identity and "task" in result:
            found[path.stem] = _scores_in(result)
    return found


def _scores_in(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _scores_in(inner) for key, inner in value.items() if key not in _ELSEWHERE + _LONG}
    return [_scores_in(inner) for inner in value] if isinstance(value, list) else value

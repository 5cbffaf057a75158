"""What there is to know of an encoder, in few words: the card beside weights that are passed on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_gen.datasets import from_test_name
from models.loading import fingerprint, modalities
from tools.evaluation.features import FrozenEncoder
from tools.utils.checkpoints import versions

# Of the machine that trained, not of the recipe.
_LOCAL = ("checkpoint_path", "data_root", "device", "resume", "save_freq", "keep", "compile", "dataset", "protocol")
# Of an evaluation's JSON, what is said elsewhere, and what is long.
_SAID = ("task", "checkpoint", "encoder", "epoch", "hidden_size", "args", "versions")
_LONG = ("history", "per_class", "rates")


def card_of(encoder: FrozenEncoder) -> dict[str, Any]:
    """What the checkpoint says of its training, how it scored, and what its weights are known by; plain values.

    Where the checkpoint names no data set, its folder's name may. Scores come from the evaluations' JSONs beside the
    checkpoint, as far as they are of these weights. What the checkpoint does not tell is None.
    """
    state, backbone = encoder.state, encoder.backbone
    told = {key: state.get(key) for key in ("dataset", "protocol", "recordings", "epoch")}
    by_name = from_test_name(encoder.path.resolve().parent.name)
    if by_name and not told["dataset"]:
        told |= {"dataset": by_name[0].name, "protocol": by_name[1].name}
    identity = fingerprint(backbone)
    return told | {
        "hidden_size": backbone.hidden_size,
        "body": backbone.layout.to_json(),
        "modalities": list(modalities(state)),
        "args": {k: v for k, v in state.get("args", {}).items() if k not in _LOCAL},
        "scores": state.get("scores", {}) | _scores(encoder.path.parent, identity),
        "encoder": identity,
        "versions": state.get("versions", {}),
        "made_with": versions(),
    }


def card_text(card: dict[str, Any]) -> str:
    return json.dumps(card, indent=1, default=str, ensure_ascii=False) + "\n"


def _scores(folder: Path, identity: str) -> dict[str, dict]:
    """The figures of each evaluation of these weights in a run's folder, by its task."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text())
        except ValueError:  # of no use here; tools.results says so
            continue
        if isinstance(result, dict) and result.get("encoder") == identity and "task" in result:
            found[path.stem] = _scores_in(result)
    return found


def _scores_in(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _scores_in(inner) for key, inner in value.items() if key not in _SAID + _LONG}
    return [_scores_in(inner) for inner in value] if isinstance(value, list) else value

"""The file of a fine-tuned model: a checkpoint of its encoder that also holds its classifier."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import Tensor

from models.loading import CLASSIFIER, DDP_PREFIX, fingerprint, is_plain
from tools.evaluation.setup import EvaluationSetup
from tools.utils import checkpoints
from tools.utils.options import classes_of

# Of a checkpoint: what belongs to the weights that it had before, or to their training.
_LEFT_BEHIND = ("state_dict", "optimizer", "scaler", "step", "meter", "scores", "finetuned", CLASSIFIER)


def finetuned_state(
    setup: EvaluationSetup, modality: str, weights: dict[str, Tensor], file: str, told: dict[str, Any], untrained: bool
) -> dict[str, Any]:
    """What goes to a `file` in the run's folder: `weights`, the state dict of a FinetuneModel, and what is `told` of
    its training. With `untrained` it began from a fresh encoder.

    All that the pre-trained checkpoint says of itself is said of it, too, but that its modalities are those that it was
    fine-tuned for: parts of others no longer fit.
    """
    own = setup.encoder.state
    state = {key: value for key, value in own.items() if key not in _LEFT_BEHIND and is_plain(value)}
    args, (stream,) = {} if untrained else own.get("args", {}), setup.modalities[modality]
    state["args"] = args | {"pretrain_modalities": list(stream)}
    if untrained:
        state["epoch"] = 0
    backbone = deepcopy(setup.encoder.backbone).cpu()
    backbone.load_state_dict({k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")})
    classifier = {
        "weight": weights["linear.weight"],
        "bias": weights["linear.bias"],
        "classes": classes_of(setup.packed),
        "modality": modality,
        "checkpoint": file,
        "encoder": fingerprint(backbone),
        **{key: setup.result[key] for key in ("dataset", "protocol")},
    }
    told = {key: classifier[key] for key in ("dataset", "protocol", "modality")} | told
    told["checkpoint"] = setup.encoder.path.name
    return state | {
        "state_dict": {f"{DDP_PREFIX}backbone.{key}": value for key, value in backbone.state_dict().items()},
        CLASSIFIER: {k: v.cpu().clone() if isinstance(v, Tensor) else v for k, v in classifier.items()},
        "finetuned": told,
        "versions": checkpoints.versions(),
    }

"""Make the contents of a fine-tuned model's file: a checkpoint of the encoder, with the classifier."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import Tensor

from models.loading import CLASSIFIER, DDP_PREFIX, fingerprint, is_plain
from tools.evaluation.setup import EvaluationSetup
from tools.utils import checkpoints
from tools.utils.options import classes_of

# Entries of a checkpoint that belong to the weights before fine-tuning, or to their training.
_LEFT_BEHIND = ("state_dict", "optimizer", "scaler", "step", "meter", "scores", "finetuned", CLASSIFIER)


def finetuned_state(
    setup: EvaluationSetup, modality: str, weights: dict[str, Tensor], file: str, told: dict[str, Any], untrained: bool
) -> dict[str, Any]:
    """Return the contents of a `file` in the run's folder: `weights`, the state dict of a FinetuneModel, and `told`, a
    description of its training. `untrained`: training began from a fresh encoder.

    The pre-trained checkpoint's other entries are copied, but the modalities are those of fine-tuning: the parts for
    other modalities no longer fit.
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

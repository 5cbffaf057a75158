"""The one table of recipes: the default flags of each task (docs/method.md, 7).

Rates drop to a tenth at each epoch of `milestones`, counted from 0. Batch sizes are global, over all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def rate_at(lr: float, milestones: Sequence[int], epoch: int) -> float:
    """Return the learning rate in an epoch, of `lr` at the start and a tenth of it after each milestone."""
    return lr * 0.1 ** sum(epoch >= milestone for milestone in milestones)


@dataclass(frozen=True)
class PretrainRecipe:
    """Pre-train with Adam; save a checkpoint every `save_freq` epochs."""

    batch_size: int
    epochs: int = 451
    milestones: tuple[int, ...] = (351,)
    lr: float = 5e-4
    hidden_size: int = 1024
    save_freq: int = 50


@dataclass(frozen=True)
class ClassifierRecipe:
    """Train a classifier with SGD; validate it after every `validate_every` epochs and after the last."""

    lr: float
    epochs: int
    milestones: tuple[int, ...]
    batch_size: int
    momentum: float = 0.9
    validate_every: int = 5

    def settings(self) -> dict[str, Any]:
        """Return what a result's settings say of it."""
        milestones = list(self.milestones)
        return {"lr": self.lr, "epochs": self.epochs, "milestones": milestones, "batch_size": self.batch_size}


# For users' own data sets; tried on 1,315 real recordings (docs/results.md).
OWN = PretrainRecipe(128, epochs=40, milestones=(31,), hidden_size=256, save_freq=10)
# For minutes on two CPU cores: smaller batches and a higher rate make up for few epochs.
_DEMO = PretrainRecipe(64, epochs=60, milestones=(46,), lr=1e-3, hidden_size=64, save_freq=10)
# No recipe is published for PKU-MMD: the batch size is that of NTU-60 cross-subject, part II has the epochs of related
# codebases.
_PKU1, _PKU2 = PretrainRecipe(512), PretrainRecipe(512, epochs=1001, milestones=(801,))
# By data set and protocol; a data set that has a row alone uses it for its other protocols, too. NTU's are published.
PRETRAIN = {
    "ntu60": PretrainRecipe(512),
    "ntu60_xview": PretrainRecipe(1024),
    "ntu120": PretrainRecipe(1024),
    "pku1": _PKU1,
    "pku2": _PKU2,
    "demo": _DEMO,
}
# --recipe: what replaces the table's values and the published weights. Tuned: loss weights in VICReg's proportions.
PRESETS: dict[str, dict[str, float]] = {
    "published": {},
    "tuned": {"lr": 1e-3, "intra_weight": 25.0, "inter_weight": 25.0, "std_weight": 25.0},
}
LINEAR_PROBE = ClassifierRecipe(0.03, 150, (120, 140), 512)
FINETUNE = ClassifierRecipe(0.01, 80, (50, 70), 64)  # on few labels, and on all of another data set


def pretrain_recipe(dataset: str, protocol: str) -> PretrainRecipe:
    """Return the recipe for a protocol of a data set."""
    return PRETRAIN.get(f"{dataset}_{protocol}") or PRETRAIN.get(dataset, OWN)

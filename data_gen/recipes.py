"""The one table of recipes: the default flags of each task (docs/method.md, 7).

Rates drop to a tenth at each epoch of `schedule`, counted from 0. Batch sizes are global, over all processes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PretrainRecipe:
    """Pre-train with Adam; save a checkpoint every `save_freq` epochs."""

    batch_size: int
    epochs: int = 451
    schedule: tuple[int, ...] = (351,)
    lr: float = 5e-4
    hidden_size: int = 1024
    save_freq: int = 50


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective of pre-training; the defaults are the published ones."""

    intra: float = 5.0
    inter: float = 5.0
    std: float = 5.0
    cov: float = 1.0


# --recipe: what replaces the recipe's values. Tuned: loss weights in VICReg's proportions.
RECIPES: dict[str, dict[str, float]] = {
    "published": {},
    "tuned": {"lr": 1e-3, "intra_weight": 25.0, "inter_weight": 25.0, "std_weight": 25.0},
}


@dataclass(frozen=True)
class ClassifierRecipe:
    """Train a classifier with SGD; validate it after every `validate_every` epochs and after the last."""

    lr: float
    epochs: int
    schedule: tuple[int, ...]
    batch_size: int
    momentum: float = 0.9
    validate_every: int = 5


# Published.
NTU60_XSUB = PretrainRecipe(512)
NTU = PretrainRecipe(1024)  # all other protocols of NTU-60 and NTU-120
LINEAR_PROBE = ClassifierRecipe(0.03, 150, (120, 140), 512)
FINETUNE = ClassifierRecipe(0.01, 80, (50, 70), 64)  # on few labels, and on all of another data set

# No recipe is published for PKU-MMD: the batch size is that of NTU-60 cross-subject, part II has the epochs of related
# codebases.
PKU1 = PretrainRecipe(512)
PKU2 = PretrainRecipe(512, epochs=1001, schedule=(801,))
# For minutes on two CPU cores: smaller batches and a higher rate make up for few epochs.
DEMO = PretrainRecipe(64, epochs=60, schedule=(46,), lr=1e-3, hidden_size=64, save_freq=10)
# For users' own data sets; tried on 1,315 real recordings (docs/results.md).
OWN = PretrainRecipe(128, epochs=40, schedule=(31,), hidden_size=256, save_freq=10)

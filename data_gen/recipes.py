"""The one table of recipes: what each task trains with where no flag says otherwise (docs/method.md, 7).

Rates drop to a tenth at each epoch of `schedule`, counted from 0. Batches are global, of all processes together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PretrainRecipe:
    """Pre-training with Adam; a checkpoint is saved every `save_freq` epochs."""

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


# --recipe: what pre-training uses instead, where no flag says otherwise. Tuned: the proportions of VICReg's weights.
VARIANTS: dict[str, dict[str, float]] = {
    "published": {},
    "tuned": {"lr": 1e-3, "intra_weight": 25.0, "inter_weight": 25.0, "std_weight": 25.0},
}


@dataclass(frozen=True)
class ClassifierRecipe:
    """Training a classifier with SGD; it is validated after every `validate_every` epochs and after the last."""

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

# Nobody has published a recipe for PKU-MMD: the batch is that of NTU-60 cross-subject, the epochs of part II are those
# that related codebases use.
PKU1 = PretrainRecipe(512)
PKU2 = PretrainRecipe(512, epochs=1001, schedule=(801,))
# Minutes on two CPU cores: smaller batches and a higher rate make up for few epochs.
DEMO = PretrainRecipe(64, epochs=60, schedule=(46,), lr=1e-3, hidden_size=64, save_freq=10)
# For data sets of users' own: with it, some 1,300 real recordings have been trained on (README.md, Figures).
OWN = PretrainRecipe(128, epochs=40, schedule=(31,), hidden_size=256, save_freq=10)

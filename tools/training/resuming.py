"""Resume from a checkpoint: check that it belongs to the same run, and restore the training state."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from feeder.sampling import global_batches
from models import loading
from tools.training.meter import LossMeter
from tools.training.trainer import Trainer
from tools.utils import checkpoints
from tools.utils.errors import UserError

# Arguments that a resumed run may not change.
FIXED = (
    *("dataset", "protocol", "hidden_size", "batch_size", "lr", "wd", "seed", "amp"),
    *("objective", "intra_weight", "inter_weight", "std_weight", "cov_weight", "pretrain_modalities"),
)
ANEW = "choose another --checkpoint-path, or start anew with --resume none"


def restore(trainer: Trainer, path: Path, state: dict) -> None:
    """Resume from a checkpoint. Raises UserError if it belongs to another run, CheckpointError if to another model."""
    _check_same_run(trainer, path, state)
    try:
        weights = loading.weights(state)
        loading.check_tensors(weights, trainer.model.state_dict(), path)
        moments = _moments(trainer, path, state)
        trainer.model.load_state_dict(weights)
        trainer.optimizer.state.update(moments)
        if trainer.scaler.is_enabled() and state.get("scaler"):
            trainer.scaler.load_state_dict(state["scaler"])
        trainer.epoch, trainer.step = state["epoch"], state.get("step", 0)
        if not trainer.step < len(global_batches(len(trainer.dataset), trainer.args.batch_size)):
            raise ValueError(f"an epoch has fewer than its {trainer.step} steps")
        if trainer.step:
            trainer.meter = LossMeter(state["meter"], trainer.procs.device)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot resume from {path}: {error}") from error


def _check_same_run(trainer: Trainer, path: Path, state: dict) -> None:
    """Raise UserError if a checkpoint has other arguments, data or augmentations. Older and published checkpoints do
    not state all of them."""
    saved, args, count = state.get("args", {}), trainer.args, len(trainer.dataset)
    saved_count = state.get("recordings", count)
    if saved_count != count:
        raise UserError(f"{path} was trained on {saved_count:,} recordings, the data set now has {count:,}: {ANEW}")
    checkpoints.check_layout(loading.layout_of(state, path), path, trainer.dataset.layout, "the data set now")
    changed = [
        f"--{key.replace('_', '-')} {saved[key]} (now {getattr(args, key)})"
        for key in FIXED
        if key in saved and saved[key] != getattr(args, key)
    ]
    if changed:
        raise UserError(f"{path} was made with {', '.join(changed)}: rerun with the same flags, {ANEW}")
    if state.get("data", trainer.data) != trainer.data:
        raise UserError(f"{path} was trained on other recordings than the data set now has: {ANEW}")
    view = repr(trainer.view)
    if state.get("view", view) != view:
        raise UserError(
            f"{path} was made with other augmentations:\n{state['view']}\nnow feeder/augment.py makes\n{view}\nUndo "
            f"the change, {ANEW}"
        )


def _moments(trainer: Trainer, path: Path, state: dict) -> dict[Tensor, dict[str, Tensor]]:
    """Return Adam's state of each parameter, without the checkpoint's hyperparameters: the run's own apply. Raises
    UserError if there is none, CheckpointError if shapes differ."""
    parameters, saved = trainer.optimizer.param_groups[0]["params"], state["optimizer"]
    saved = saved.get("state") if isinstance(saved, dict) else None
    if not isinstance(saved, dict) or (saved or state["epoch"]) and set(saved) != set(range(len(parameters))):
        raise UserError(f"cannot resume from {path}: it holds no optimiser state")
    moments = {}
    for number, one in saved.items():
        parameter = parameters[number]
        step = torch.empty((), dtype=torch.float32, device=parameter.device)
        like = {"step": step, "exp_avg": parameter, "exp_avg_sq": parameter}
        if not isinstance(one, dict):
            raise UserError(f"cannot resume from {path}: it holds no optimiser state")
        if isinstance(one.get("step"), int | float):  # older versions of PyTorch write it so
            one = one | {"step": torch.tensor(float(one["step"]))}
        one = {key: value for key, value in one.items() if key in like}
        loading.check_tensors(one, like, path)
        moments[parameter] = {key: torch.empty_like(t).copy_(one[key]) for key, t in like.items()}
        if moments[parameter]["step"] < 0 or (moments[parameter]["exp_avg_sq"] < 0).any():
            raise UserError(f"cannot resume from {path}: its optimiser state is not one of Adam")
    return moments

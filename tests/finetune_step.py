"""Steps of fine-tuning on the tiny data set, run by tests in several processes: their gradients and a validation."""

from pathlib import Path

import numpy as np
import torch
from data_gen.recipes import FINETUNE
from models.encoder import Backbone
from tools.training.finetune import Finetuner, new_classifier
from tools.utils.distributed import Processes, processes

from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset


def step(folder: Path, batch: int, modalities: tuple[str, ...], procs: Processes) -> dict:
    """Gradients by name after a step on the first `batch` training recordings, and the accuracies before it."""
    packed = PackedDataset(folder)
    source = ClipDataset.of_dataset(packed, np.arange(len(packed)), procs.device)
    train, val = (torch.from_numpy(packed.split("xsub", side)) for side in ("train", "val"))
    torch.manual_seed(0)
    model = new_classifier(Backbone(8), modalities, packed.num_classes, seed=procs.rank)  # the main one's counts
    tuner = Finetuner(model, source, FINETUNE, 0, procs)
    tuner.compile_and_distribute(train)
    accuracies = tuner.validate(torch.cat((val, train))[: 7 * batch])
    tuner.train_step(train[:batch])
    return {"accuracies": accuracies, "gradients": {n: p.grad for n, p in model.named_parameters()}}


# Unequal shares of a batch, and empty ones where there are fewer clips than processes.
CASES = ((5, ("joint", "bone", "motion")), (2, ("motion",)))


def save_steps(folder: Path, out: Path) -> None:
    """Have the main one of the processes that call this save a step of each case."""
    with processes("cpu") as procs:
        results = [step(folder, *case, procs) for case in CASES]
        if procs.is_main:
            torch.save(results, out)

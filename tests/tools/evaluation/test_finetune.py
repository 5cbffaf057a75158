from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import NTU_LAYOUT
from feeder.clips import ClipDataset, ResampleClip
from feeder.modalities import PUBLISHED, derive
from feeder.sampling import epoch_order
from models import ENCODERS
from models.transformer import Transformer
from tests.processes import together
from tools.evaluation.classifier import FinetuneModel
from tools.evaluation.finetune import Finetuner, train
from tools.evaluation.metrics import top_k_accuracy
from tools.training.recipes import FINETUNE, ClassifierRecipe
from utils.errors import UserError
from utils.processes import Processes, processes

ALONE = Processes(0, 1, torch.device("cpu"))
CLASSES = 12


@pytest.fixture(scope="module")
def data(demo_root):
    """All recordings of the tiny data set, and the indices of both splits."""
    packed = PackedDataset(demo_root / "demo")
    source = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device("cpu"))
    return source, *(torch.from_numpy(packed.split("xsub", split)) for split in ("train", "val"))


@pytest.fixture
def encoder():
    torch.manual_seed(5)
    return Transformer(16, PUBLISHED, NTU_LAYOUT)


def new_model(encoder, seed, modalities=PUBLISHED):
    return FinetuneModel(encoder, modalities, CLASSES, torch.Generator().manual_seed(seed))


def textbook(encoder, linear, source, train_indices, val_indices, recipe, orders):
    """The recipe written out, on the whole batch without any of the savings."""
    parents, cross_entropy = torch.tensor(NTU_LAYOUT.skeleton.parents), nn.CrossEntropyLoss()
    parameters = [*encoder.parameters(), *linear.parameters()]
    optimizer = torch.optim.SGD(parameters, recipe.lr, momentum=recipe.momentum)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(recipe.milestones), gamma=0.1)

    def logits(indices):
        return linear(encoder(derive(ResampleClip()(source.windows(indices)), PUBLISHED, parents)))

    history = []
    for epoch, order in enumerate(orders, start=1):
        losses = []
        for indices in train_indices[order].tensor_split(-(-len(train_indices) // recipe.batch_size)):
            optimizer.zero_grad()
            loss = cross_entropy(logits(indices), source.label[indices])
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(indices))
        schedule.step()
        if epoch % 5 == 0 or epoch == recipe.epochs:
            with torch.no_grad():
                accuracies = [top_k_accuracy(logits(val_indices), source.label[val_indices], k) for k in (1, 5)]
            history.append((epoch, *accuracies, sum(losses) / len(train_indices)))
    return history


def test_the_published_recipe():
    assert FINETUNE == ClassifierRecipe(0.01, 80, (50, 70), 64, 0.9, 5)


def test_it_is_the_textbooks_training(data):
    source, train_indices, val_indices = data
    recipe = ClassifierRecipe(0.05, 7, (3, 6), 5)
    encoders = []
    for _ in range(2):
        torch.manual_seed(5)
        encoders.append(Transformer(16, PUBLISHED, NTU_LAYOUT))
    scores = train(Finetuner(new_model(encoders[0], 3), source, recipe, 3, ALONE), train_indices, val_indices)
    linear = nn.Linear(32, CLASSES)
    with torch.no_grad():
        linear.weight.copy_(0.01 * torch.randn(CLASSES, 32, generator=torch.Generator().manual_seed(3)))
        linear.bias.zero_()
    orders = [epoch_order(len(train_indices), 3, epoch) for epoch in range(7)]
    expected = textbook(encoders[1], linear, source, train_indices, val_indices, recipe, orders)
    assert [s.epoch for s in scores] == [5, 7]
    for score, values in zip(scores, expected):
        assert tuple(score) == pytest.approx(values, rel=1e-3)
    for (name, weight), other in zip(encoders[0].named_parameters(), encoders[1].parameters()):
        torch.testing.assert_close(weight, other, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", ENCODERS)
def test_a_tiny_set_is_learnt_by_heart_and_the_seed_decides_alone(data, name):
    source, train_indices, _ = data
    recipe = replace(FINETUNE, epochs=20, milestones=(18,), batch_size=6, lr=0.02)
    runs = []
    for seed in (0, 1, 0):
        torch.manual_seed(5)
        encoder = ENCODERS[name](16, PUBLISHED, NTU_LAYOUT)
        runs.append(
            train(Finetuner(new_model(encoder, seed), source, recipe, seed, ALONE), train_indices, train_indices)
        )
    assert runs[0] == runs[2] != runs[1] and all(run[-1].loss < run[0].loss for run in runs)
    assert name != "transformer" or all(run[-1].top1 == 100 and run[-1].loss < 0.1 for run in runs)


@pytest.mark.parametrize("modalities", [("bone",), ("joint", "motion")])
def test_what_other_modalities_pass_through_is_not_trained(data, encoder, modalities):
    source, train_indices, _ = data
    model = new_model(encoder, 0, modalities)
    tuner = Finetuner(model, source, FINETUNE, 0, ALONE)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    tuner.train_step(train_indices)
    without = {n for n, p in model.named_parameters() if p.grad is None}
    assert frozen == without  # or DistributedDataParallel would wait for them
    unused = {f"encoder.embeddings.{m}." for m in PUBLISHED if m not in modalities}
    unused |= {"encoder.fusion."} if len(modalities) < 2 else set()
    assert {name for name, _ in model.named_parameters() if name.startswith(tuple(unused))} == without


# Unequal shares of a batch, and empty ones where there are fewer clips than processes.
CASES = ((5, PUBLISHED), (2, ("motion",)))


def step(folder: Path, batch: int, modalities: tuple[str, ...], procs: Processes) -> dict:
    """Gradients by name after a step on the first `batch` training recordings, and the accuracies before it."""
    packed = PackedDataset(folder)
    source = ClipDataset.of_dataset(packed, np.arange(len(packed)), procs.device)
    train_indices, val_indices = (torch.from_numpy(packed.split("xsub", split)) for split in ("train", "val"))
    torch.manual_seed(0)
    model = new_model(Transformer(8, PUBLISHED, NTU_LAYOUT), procs.rank, modalities)  # the main one's weights count
    tuner = Finetuner(model, source, FINETUNE, 0, procs)
    tuner.start(train_indices, "off")
    accuracies = tuner.validate(torch.cat((val_indices, train_indices))[: 7 * batch])
    tuner.train_step(train_indices[:batch])
    return {"accuracies": accuracies, "gradients": {n: p.grad for n, p in model.named_parameters()}}


def save_steps(folder: Path, out: Path) -> None:
    """Have the main one of the processes that call this save a step of each case."""
    with processes("cpu") as procs:
        results = [step(folder, *case, procs) for case in CASES]
        if procs.is_main:
            torch.save(results, out)


def test_several_processes_have_the_gradient_of_one(demo_root, tmp_path):
    together(3, save_steps, demo_root / "demo", tmp_path / "out")
    for case, several in zip(CASES, torch.load(tmp_path / "out"), strict=True):
        expected = step(demo_root / "demo", *case, ALONE)
        assert several["accuracies"] == expected["accuracies"]
        assert sum(g is not None for g in expected["gradients"].values()) > 20
        for name, gradient in several["gradients"].items():
            assert (gradient is None) == (expected["gradients"][name] is None), name
            if gradient is not None:
                torch.testing.assert_close(gradient, expected["gradients"][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "recipe",
    [replace(FINETUNE, lr=1e30), replace(FINETUNE, lr=1e38, epochs=1)],  # one step, whose loss is from before it
)
def test_what_is_not_finite_stops_it(data, encoder, recipe):
    source, train_indices, val_indices = data
    with pytest.raises(UserError, match="--lr"):
        train(Finetuner(new_model(encoder, 0), source, recipe, 0, ALONE), train_indices, val_indices)


def test_bf16_changes_the_precision_of_the_model_alone(data):
    source, train_indices, val_indices = data
    recipe = replace(FINETUNE, epochs=5, milestones=())
    losses = []
    for amp in ("off", "bf16"):
        torch.manual_seed(5)
        model = new_model(Transformer(16, PUBLISHED, NTU_LAYOUT), 0)
        losses.append(train(Finetuner(model, source, recipe, 0, ALONE, amp), train_indices, val_indices)[-1].loss)
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[1] != losses[0]

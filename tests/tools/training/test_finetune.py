from dataclasses import replace

import numpy as np
import pytest
import torch
from data_gen.recipes import FINETUNE, ClassifierRecipe
from feeder.modality_names import MODALITIES
from models.encoder import Backbone
from tools.training.finetune import Finetuner, finetune, new_classifier
from tools.utils.distributed import Processes
from tools.utils.errors import UserError
from tools.utils.metrics import top_k_accuracy
from tools.utils.precision import choose_amp
from torch import nn

from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset, evaluation_view
from feeder.modalities import ModalityTokens
from feeder.sampling import epoch_order
from models.umurl import UmURL
from tests.finetune_step import CASES, save_steps, step
from tests.processes import together

ALONE = Processes(0, 1, torch.device("cpu"))
CLASSES = 12


@pytest.fixture(scope="module")
def data(demo_root):
    """All recordings of the tiny data set, and the rows of both sides."""
    packed = PackedDataset(demo_root / "demo")
    source = ClipDataset.of_dataset(packed, np.arange(len(packed)), torch.device("cpu"))
    return source, *(torch.from_numpy(packed.split("xsub", side)) for side in ("train", "val"))


@pytest.fixture
def backbone():
    torch.manual_seed(5)
    return Backbone(16).eval()


def textbook(backbone, linear, source, train, val, recipe, orders):
    """The recipe written out, on the whole batch without any of the savings."""
    view, cross_entropy = evaluation_view, nn.CrossEntropyLoss()
    parameters = [*backbone.parameters(), *linear.parameters()]
    optimizer = torch.optim.SGD(parameters, recipe.lr, momentum=recipe.momentum)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(recipe.schedule), gamma=0.1)

    def scores(rows):
        clip = view(source.clips(rows))
        return linear(backbone(ModalityTokens()(clip, MODALITIES)))

    history = []
    for epoch, order in enumerate(orders, start=1):
        losses = []
        for rows in train[order].tensor_split(-(-len(train) // recipe.batch_size)):
            optimizer.zero_grad()
            loss = cross_entropy(scores(rows), source.label[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(rows))
        schedule.step()
        if epoch % 5 == 0 or epoch == recipe.epochs:
            with torch.no_grad():
                accuracies = [top_k_accuracy(scores(val), source.label[val], k) for k in (1, 5)]
            history.append((epoch, *accuracies, sum(losses) / len(train)))
    return history


def test_the_published_recipe():
    assert FINETUNE == ClassifierRecipe(0.01, 80, (50, 70), 64, 0.9, 5)


def test_it_is_the_textbooks_training(data, backbone):
    source, train, val = data
    recipe = ClassifierRecipe(0.05, 7, (3, 6), 5)
    model = new_classifier(backbone, MODALITIES, CLASSES, seed=3)
    found = finetune(Finetuner(model, source, recipe, 3, ALONE), train, val)
    linear = nn.Linear(32, CLASSES)
    with torch.no_grad():
        linear.weight.copy_(0.01 * torch.randn(CLASSES, 32, generator=torch.Generator().manual_seed(3)))
        linear.bias.zero_()
    orders = [epoch_order(len(train), 3, epoch) for epoch in range(7)]
    expected = textbook(backbone, linear, source, train, val, recipe, orders)
    assert [s.epoch for s in found] == [5, 7]
    for score, values in zip(found, expected):
        assert tuple(score) == pytest.approx(values, rel=1e-3)
    theirs = dict(backbone.named_parameters())
    for name, weight in model.backbone.named_parameters():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_a_tiny_set_is_learnt_by_heart_and_the_seed_decides_alone(data, backbone):
    source, train, _ = data
    recipe = replace(FINETUNE, epochs=20, schedule=(18,), batch_size=6)
    runs = []
    for seed in (0, 1, 0):
        model = new_classifier(backbone, MODALITIES, CLASSES, seed)
        runs.append(finetune(Finetuner(model, source, recipe, seed, ALONE), train, train))
    assert all(run[-1].top1 == 100 and run[-1].loss < 0.1 for run in runs)
    assert runs[0] == runs[2] != runs[1]


def test_the_encoder_is_trained_and_the_given_one_is_not(data, backbone):
    source, train, val = data
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = new_classifier(backbone, MODALITIES, CLASSES, seed=0)
    finetune(Finetuner(model, source, replace(FINETUNE, epochs=1, schedule=()), 0, ALONE), train, val)
    torch.testing.assert_close(backbone.state_dict(), before, rtol=0, atol=0)
    for name, weight in model.backbone.named_parameters():
        assert not torch.equal(weight, before[name]), name


def test_from_scratch_is_the_untrained_encoder_of_the_seed(backbone):
    torch.manual_seed(7)
    untrained = UmURL(16).backbone.state_dict()
    model = new_classifier(backbone, MODALITIES, CLASSES, seed=7, from_scratch=True)
    torch.testing.assert_close(model.backbone.state_dict(), untrained, rtol=0, atol=0)
    kept = new_classifier(backbone, MODALITIES, CLASSES, seed=7)
    torch.testing.assert_close(kept.backbone.state_dict(), backbone.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(kept.linear.weight, model.linear.weight, rtol=0, atol=0)
    assert kept.linear.weight.std().item() == pytest.approx(0.01, rel=0.1) and not kept.linear.bias.any()


@pytest.mark.parametrize("modalities", [("bone",), ("joint", "motion")])
def test_what_other_modalities_pass_through_is_not_trained(data, backbone, modalities):
    source, train, val = data
    model = new_classifier(backbone, modalities, CLASSES, seed=0)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    Finetuner(model, source, FINETUNE, 0, ALONE).train_step(train)
    without = {n for n, p in model.named_parameters() if p.grad is None}
    assert frozen == without  # or DistributedDataParallel would wait for them
    other = {m[0] + "_emb" for m in MODALITIES if m not in modalities} | (
        {"mm_fusion"} if len(modalities) < 2 else set()
    )
    assert {name.split(".")[1] for name in without} == other


def test_several_processes_have_the_gradient_of_one(demo_root, tmp_path):
    together(3, save_steps, demo_root / "demo", tmp_path / "out")
    for case, found in zip(CASES, torch.load(tmp_path / "out"), strict=True):
        expected = step(demo_root / "demo", *case, ALONE)
        assert found["accuracies"] == expected["accuracies"]
        assert sum(g is not None for g in expected["gradients"].values()) > 20
        for name, gradient in found["gradients"].items():
            assert (gradient is None) == (expected["gradients"][name] is None), name
            if gradient is not None:
                torch.testing.assert_close(gradient, expected["gradients"][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "recipe, message",
    [
        (replace(FINETUNE, lr=1e30), "the loss of epoch 1 is not finite, so fine-tuning stops: lower --lr"),
        # A single step, whose loss is from before it.
        (replace(FINETUNE, lr=1e38, epochs=1), "a validation score is not finite, so fine-tuning stops"),
    ],
)
def test_what_is_not_finite_stops_it(data, backbone, recipe, message):
    source, train, val = data
    model = new_classifier(backbone, MODALITIES, CLASSES, seed=0)
    with pytest.raises(UserError, match=message):
        finetune(Finetuner(model, source, recipe, 0, ALONE), train, val)


def test_bf16_changes_the_precision_of_the_model_alone(data, backbone):
    source, train, val = data
    recipe = replace(FINETUNE, epochs=5, schedule=())
    losses = []
    for amp in ("off", "bf16"):
        model = new_classifier(backbone, MODALITIES, CLASSES, seed=0)
        losses.append(finetune(Finetuner(model, source, recipe, 0, ALONE, amp), train, val)[-1].loss)
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[1] != losses[0]


def test_the_precision_is_chosen_by_the_device(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (choose_amp(None, cpu), choose_amp("bf16", cpu)) == ("off", "bf16")
    with pytest.raises(UserError, match="--amp fp16 needs a GPU; on a CPU use --amp off or bf16"):
        choose_amp("fp16", cpu)
    for has_it, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda h=has_it: h)
        assert choose_amp(None, gpu) == expected
    assert choose_amp("off", gpu) == "off"

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from data_gen.packed.reader import PackedDataset
from feeder.clips import ClipDataset, ResampleClip
from feeder.modalities import derive
from models.frozen import load_encoder
from tests.helpers import GOLDEN
from tools.evaluation.metrics import top_k_accuracy
from tools.evaluation.probe import LinearProbe, best_and_last, train_probes
from tools.training.recipes import LINEAR_PROBE, ClassifierRecipe
from utils.errors import UserError


def blobs(n, seed, classes=4, dims=16):
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dims, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(classes, (n,), generator=rng)
    return centres[labels] + torch.randn(n, dims, generator=rng), labels


def linear_probe(train, val, classes, recipe, seeds, lrs=()):
    probe = LinearProbe(*train, classes, recipe, seeds, lrs)
    return train_probes({"all": probe}, {"all": val[0]}, val[1], {})["all"]


def textbook_probe(train, val, classes, recipe, seed, lr):
    """One run, written out with nn.Linear."""
    rng = torch.Generator().manual_seed(seed)
    linear = nn.Linear(train[0].shape[1], classes)
    with torch.no_grad():
        linear.weight.copy_(0.01 * torch.randn(linear.weight.shape, generator=rng))
        linear.bias.zero_()
    optimizer = torch.optim.SGD(linear.parameters(), lr, momentum=0.9)
    history = []
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = lr * 0.1 ** sum(epoch >= at for at in recipe.milestones)
        for rows in torch.randperm(len(train[0]), generator=rng).split(recipe.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(linear(train[0][rows]), train[1][rows]).backward()
            optimizer.step()
        if (epoch + 1) % recipe.validate_every == 0 or epoch + 1 == recipe.epochs:
            history.append((epoch + 1, top_k_accuracy(linear(val[0]).detach(), val[1], 1)))
    return history


def test_a_loss_that_is_not_finite_stops_the_probe():
    recipe = replace(LINEAR_PROBE, epochs=20, milestones=())
    probe = LinearProbe(torch.full((8, 4), 1e9), torch.arange(8) % 2, 2, recipe, [0], [1e30])
    with pytest.raises(UserError, match="--lr"):
        list(probe.train())


def test_all_rates_and_seeds_at_once_are_each_run_by_itself():
    train, val = blobs(150, 1), blobs(80, 2)
    recipe, lrs = ClassifierRecipe(0.03, 12, (6, 10), 64), (0.03, 0.3)
    together = linear_probe(train, val, 4, recipe, [0, 1, 2], lrs)
    for run, (lr, seed) in enumerate((lr, seed) for lr in lrs for seed in (0, 1, 2)):
        alone = linear_probe(train, val, 4, replace(recipe, lr=lr), [seed])
        expected = textbook_probe(train, val, 4, recipe, seed, lr)
        assert [(v.epoch, pytest.approx(v.top1[run])) for v in together] == expected
        assert [v.top1[0] for v in alone] == pytest.approx([v.top1[run] for v in together])
        assert [v.loss[0] for v in alone] == pytest.approx([v.loss[run] for v in together], rel=1e-4)


def test_the_published_recipe():
    assert LINEAR_PROBE == ClassifierRecipe(0.03, 150, (120, 140), 512, 0.9, 5)


def test_validated_after_every_fifth_epoch_and_the_last():
    validations = linear_probe(blobs(40, 1), blobs(40, 2), 4, replace(LINEAR_PROBE, epochs=12), [0])
    assert [v.epoch for v in validations] == [5, 10, 12]


def test_cached_features_are_those_of_every_batch(demo_root):
    packed = PackedDataset(demo_root / "demo")
    encoder = load_encoder(GOLDEN / "official_h8.pth.tar", device="cpu")
    source = ClipDataset.of_dataset(packed, packed.split("xsub", "train"), torch.device("cpu"))
    (cached,) = encoder.features(source)
    assert cached.dtype == torch.float32 and not cached.is_inference()  # it can be trained on
    for indices in torch.randperm(len(source)).split(5):
        clips = derive(ResampleClip()(source.windows(indices)), encoder.modalities, encoder.parents)
        torch.testing.assert_close(cached[indices], encoder.encoder(clips), rtol=1e-5, atol=1e-5)


def test_late_fusion_is_the_sum_of_logits():
    """Two streams side by side: each as by itself, and their sum as computed from the classifiers at the end."""
    (a, labels), (b, _) = blobs(150, 1), blobs(150, 3)
    recipe, lrs = replace(LINEAR_PROBE, epochs=7), (0.03, 0.3)
    probes = {name: LinearProbe(x, labels, 4, recipe, [0, 1], lrs) for name, x in (("joint", a), ("bone", b))}
    found = train_probes(probes, {"joint": a, "bone": b}, labels, {"late": ["joint", "bone"]})
    assert found["joint"] == linear_probe((a, labels), (a, labels), 4, recipe, [0, 1], lrs)
    assert [v.epoch for v in found["late"]] == [5, 7]
    for run in range(4):
        weights = [probe.weight[run].numpy() for probe in probes.values()]
        biases = [probe.bias[run].numpy() for probe in probes.values()]
        logits = a.numpy() @ weights[0].T + biases[0] + b.numpy() @ weights[1].T + biases[1]
        right = logits.argmax(1) == labels.numpy()
        assert found["late"][-1].top1[run] == pytest.approx(100 * right.mean())


def test_best_and_last_are_of_each_run():
    validations = linear_probe(blobs(40, 1), blobs(40, 2), 4, replace(LINEAR_PROBE, epochs=20), [0, 1, 2])
    metrics = best_and_last(validations, range(3))
    top1 = np.array([v.top1 for v in validations])
    assert (
        metrics["last_top1"]["values"] == top1[-1].tolist() and metrics["best_top1"]["values"] == top1.max(0).tolist()
    )
    assert metrics["last_top1"]["mean"] == pytest.approx(top1[-1].mean())
    assert metrics["last_top1"]["std"] == pytest.approx(top1[-1].std())
    first_best = top1.argmax(0)
    assert metrics["best_top5"]["values"] == [validations[i].top5[run] for run, i in enumerate(first_best)]

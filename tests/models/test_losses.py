from dataclasses import dataclass

import pytest
import torch

from feeder.modalities import PUBLISHED
from models import LossWeights, losses
from models.losses import BaselineLoss, UmURLLoss, covariance_loss, variance_loss


def named(z, modalities=PUBLISHED) -> dict[str, torch.Tensor]:
    """Projections as UmURL calls them: the uni-modal streams', then the multi-modal stream's."""
    return dict(zip([*modalities, *(f"multi_{m}" for m in modalities)], z))


def textbook(z: torch.Tensor) -> torch.Tensor:
    """The formula with the covariance matrix itself, in float64."""
    z = z.double()
    cov = torch.cov(z.T)
    std = torch.sqrt(cov.diagonal() + 1e-4)
    off = cov - torch.diag(cov.diagonal())
    return 5 * torch.relu(1 - std).mean() + off.square().sum() / z.shape[1]


@pytest.mark.parametrize("rows, dims", [(2, 64), (7, 300), (128, 1024), (300, 64), (64, 64)])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_gram_form_is_the_covariance_form(rows, dims, scale):
    torch.manual_seed(0)
    # correlated columns far from zero: what centring has to take care of
    z = (scale * (torch.randn(rows, dims) + 2 * torch.randn(rows, 1)) + 5).requires_grad_()
    centred = z - z.mean(0)
    value = 5 * variance_loss(centred) + covariance_loss(centred)
    expected = textbook(z)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    gradient, wanted = torch.autograd.grad(value, z)[0], torch.autograd.grad(expected, z)[0]
    assert (gradient - wanted).norm() <= 1e-5 * wanted.norm()


def test_parts_add_up_by_the_formula():
    torch.manual_seed(0)
    z = torch.randn(6, 10, 32).unbind()
    loss = UmURLLoss()(named(z))
    mean = torch.stack(z[:3]).mean(0)
    intra = sum((a - b).square().mean() for a, b in zip(z[:3], z[3:]))
    inter = sum((a - mean).square().mean() for a in z[:3])
    regularisers = sum(textbook(a) for a in z)
    found = [loss.total, loss.terms["intra"], loss.terms["inter"], 5 * loss.terms["std"] + loss.terms["cov"]]
    for value, expected in zip(found, (5 * (intra + inter) + regularisers, intra, inter, regularisers)):
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert list(loss.terms) == ["intra", "inter", "std", "cov"]


def test_no_gradient_is_stopped():
    torch.manual_seed(0)
    z = [t.requires_grad_() for t in torch.randn(6, 10, 32)]
    alone = LossWeights(intra=0, inter=1, std=0, cov=0)
    UmURLLoss(alone)(named(z)).total.backward()
    n = z[0].numel()
    mean = (z[0] + z[1] + z[2]) / 3
    # d/dz_j Σ_k |z_k − mean|² / n: the terms through the mean cancel only in the sum
    torch.testing.assert_close(z[0].grad, (2 * (z[0] - mean) / n).detach())


def test_the_loss_is_float32_inside_autocast():
    torch.manual_seed(0)
    z = named(200 * torch.randn(6, 16, 256))
    with torch.autocast("cpu", torch.bfloat16):
        loss = UmURLLoss()(z)
    assert loss.total.dtype == torch.float32
    assert loss.total.item() == pytest.approx(UmURLLoss()(z).total.item(), rel=1e-6)
    half = UmURLLoss()({name: p.half() for name, p in z.items()})  # would overflow in float16
    assert half.total.isfinite()


def test_row_order_does_not_matter():
    torch.manual_seed(0)
    z = torch.randn(6, 20, 64)
    order = torch.randperm(20)
    a, b = UmURLLoss()(named(z)), UmURLLoss()(named(z[:, order]))
    assert a.total.item() == pytest.approx(b.total.item(), rel=1e-5)


def test_collapse_shows_in_the_deviation():
    loss = UmURLLoss()(named(torch.ones(6, 20, 64)))
    assert max(loss.std.values()) < 0.011 and loss.terms["std"].item() == pytest.approx(6 * (1 - 0.01), rel=1e-4)


def test_weights_multiply_their_terms():
    torch.manual_seed(0)
    z = torch.randn(6, 10, 32)
    loss = UmURLLoss(LossWeights(intra=2, inter=3, std=4, cov=7))(named(z))
    off = sum(torch.cov(a.T).fill_diagonal_(0).square().sum() / 32 for a in z)
    assert loss.terms["cov"].item() == pytest.approx(off.item(), rel=1e-5)
    expected = sum(weight * loss.terms[name] for name, weight in zip(("intra", "inter", "std", "cov"), (2, 3, 4, 7)))
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_fewer_modalities_are_the_formula_on_those():
    torch.manual_seed(0)
    a, b, ua, ub = z = torch.randn(4, 10, 32)
    loss = UmURLLoss()(named(z, ("joint", "motion")))
    assert list(loss.std) == ["joint", "motion", "multi_joint", "multi_motion"]
    assert loss.terms["intra"].item() == pytest.approx(((a - ua).square() + (b - ub).square()).mean().item(), rel=1e-5)
    assert loss.terms["inter"].item() == pytest.approx(((a - b) / 2).square().mean().item() * 2, rel=1e-5)


def test_the_baseline_is_consistency_between_two_views_and_the_regularisers():
    torch.manual_seed(0)
    a, b = torch.randn(2, 10, 32)
    loss = BaselineLoss()({"view_1": a, "view_2": b})
    expected = 5 * (a - b).square().mean() + textbook(a) + textbook(b)
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(loss.terms) == {"intra", "std", "cov"} and list(loss.std) == ["view_1", "view_2"]


def test_a_new_term_is_a_field_and_a_method(monkeypatch):
    """As CONTRIBUTING.md says: the field's name is the method's; flags and the sum follow from it."""

    @dataclass(frozen=True)
    class MoreWeights(LossWeights):
        norm: float = 2.0

    class MoreLoss(BaselineLoss):
        def norm(self, z, centred):
            return sum(p.square().mean() for p in z.values())

    monkeypatch.setattr(losses, "PUBLISHED", MoreWeights())
    a, b = torch.randn(2, 10, 32)
    z = {"view_1": a, "view_2": b}
    loss = MoreLoss(MoreWeights())(z)
    assert set(loss.terms) == {"intra", "std", "cov", "norm"} and "norm" not in BaselineLoss()(z).terms
    expected = BaselineLoss()(z).total + 2 * (a.square().mean() + b.square().mean())
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)

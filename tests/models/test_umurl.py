import numpy as np
import pytest
import torch

from feeder.modalities import PUBLISHED
from models import ENCODERS
from models.checkpoints import load
from tests.helpers import GOLDEN, make_method, streams_of


@pytest.fixture
def golden():
    return np.load(GOLDEN / "pretrain_h8.npz")


@pytest.fixture
def method():
    method = make_method(8)
    method.load_state_dict(load(GOLDEN / "official_h8.pth.tar")["state_dict"])
    return method.train()


def views_of(golden):
    return tuple(torch.from_numpy(golden[f"view{i}"]).permute(0, 2, 4, 3, 1) for i in (1, 2, 3, 4))


def published_names() -> dict[str, str]:
    """Today's name of each parameter → the published one, without `module.`, by their common order."""
    published = torch.load(GOLDEN / "official_h8.pth.tar", weights_only=True)["state_dict"]
    return dict(zip(make_method(8).state_dict(), (key.removeprefix("module.") for key in published)))


def test_golden_projections(method, golden):
    z = np.stack([p.detach()[:, :64] for p in method(streams_of(method, views_of(golden))).values()])
    # Some values are near zero: in float64, the same model is up to 3.5e-6 away from these float32 figures.
    np.testing.assert_allclose(z, golden["z"], rtol=1e-4, atol=1e-5)


def test_golden_loss_and_gradients(method, golden):
    loss = method.loss(method(streams_of(method, views_of(golden))))
    terms = loss.terms
    values = [loss.total, terms["intra"], terms["inter"], 5 * terms["std"] + terms["cov"]]
    np.testing.assert_allclose([x.item() for x in values], golden["loss"], rtol=1e-4)
    loss.total.backward()
    names = published_names()
    norms = {names[name]: p.grad.norm().item() for name, p in method.named_parameters()}
    assert sorted(norms) == golden["grad_names"].tolist()
    for name, expected in zip(golden["grad_names"], golden["grad_norms"]):
        assert abs(norms[name] - expected) <= 1e-4 * expected + 1e-3, name


def test_published_parameter_counts():
    method = make_method(1024)
    assert sum(p.numel() for p in method.encoder.parameters()) == 22_067_200
    assert sum(p.numel() for p in method.parameters()) == 72_448_000


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("modalities", [("joint",), ("joint", "motion"), (*PUBLISHED, "bone_motion", "acceleration")])
def test_each_modality_has_a_stream_and_a_projector_of_its_own(modalities, encoder):
    torch.manual_seed(0)
    method = make_method(16, modalities, encoder=encoder).eval()
    streams = streams_of(method, torch.randn(len(modalities) + 1, 5, 64, 2, 25, 3))
    assert [list(stream) for stream in streams] == [*([m] for m in modalities), list(modalities)]
    z = method(streams)
    assert list(z) == [*modalities, *(f"multi_{m}" for m in modalities)]
    assert len({id(projector) for projector in method.projectors.values()}) == len(modalities)
    fused = method.encoder(streams[-1])
    for m, stream in zip(modalities, streams):
        projector = method.projectors[m]
        torch.testing.assert_close(z[m], projector(method.encoder(stream)), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(z[f"multi_{m}"], projector(fused), atol=1e-4, rtol=1e-4)
    sum(p.sum() for p in z.values()).backward()
    assert not [name for name, p in method.named_parameters() if p.grad is None]


def test_the_baseline_is_two_fused_views_through_one_projector():
    torch.manual_seed(0)
    method = make_method(16, method="baseline").eval()
    views = torch.randn(2, 5, 64, 2, 25, 3)
    streams = streams_of(method, views)
    for z, stream in zip(method(streams).values(), streams):
        torch.testing.assert_close(z, method.projector(method.encoder(stream)), atol=1e-4, rtol=1e-4)
    method.train()
    views[1] += 5  # batch statistics are those of one view
    moved, same = streams_of(method, views), streams_of(method, (views[0], views[0]))
    torch.testing.assert_close(method(moved)["view_1"], method(same)["view_1"])

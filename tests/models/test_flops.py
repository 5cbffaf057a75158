import pytest
import torch
from feeder.modality_names import MODALITIES
from torch.utils.flop_counter import FlopCounterMode

from feeder.augment import training_view
from feeder.modalities import ModalityTokens
from models import flops, umurl
from models.umurl import UmURL
from tools.benchmark import baselines
from tools.benchmark.simulate import simulated_dataset


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    dataset = simulated_dataset(tmp_path_factory.mktemp("packed"), 6, 6, torch.device("cpu"))
    return training_view()(dataset.views(torch.arange(3), 4, seed=0, epoch=0)).chunk(4)


@pytest.fixture(autouse=True)
def small_projections(monkeypatch):
    for module in (umurl, flops):
        monkeypatch.setattr(module, "PROJECTION_SIZE", 128)


def counted(projections) -> int:
    with FlopCounterMode(display=False) as counter:
        sum(p.square().sum() for p in projections().values()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("hidden, batch", [(16, 3), (24, 2)])
def test_operations_are_those_pytorch_counts_in_the_textbook_model(views, hidden, batch):
    model, some = UmURL(hidden), [view[:batch] for view in views]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert counted(lambda: baselines.forward(model, some)) == batch * flops.training_flops(hidden)


@pytest.mark.parametrize("modalities", [MODALITIES, MODALITIES[:1]])
def test_the_model_computes_no_more_than_the_textbook_says(views, modalities):
    hidden, model = 64, UmURL(64, modalities)
    streams = [ModalityTokens()(view, names) for view, names in zip(views, model.streams)]
    textbook = len(views[0]) * flops.training_flops(hidden, len(modalities))
    assert textbook / 2 < counted(lambda: model(streams)) < textbook

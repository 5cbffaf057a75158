import pytest
import torch
from models.detector import Detector
from models.encoder import Backbone

from feeder.modalities import ModalityTokens


@pytest.fixture
def clip():
    return torch.randn(3, 64, 2, 25, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("modalities", [("joint", "bone", "motion"), ("bone",)])
def test_a_frames_score_is_linear_in_its_token_and_the_spatial_feature(clip, modalities):
    backbone = Backbone(8)
    detector, stream = Detector(backbone, modalities, 4, finetune=False), ModalityTokens()(clip, modalities)
    temporal, spatial = backbone.encode_tokens(stream)
    feature = backbone(stream)
    torch.testing.assert_close(torch.cat((temporal.amax(1), spatial.amax(1)), 1), feature)
    scores = detector(stream)
    assert scores.shape == (3, 64, 5)
    one = torch.cat((temporal[1, 7], feature[1, 8:]))
    torch.testing.assert_close(scores[1, 7], detector.linear(one))


def test_only_what_is_to_be_trained_has_a_gradient(clip):
    stream = ModalityTokens()(clip, ("joint",))
    for finetune in (False, True):
        detector = Detector(Backbone(8), ("joint",), 4, finetune)
        detector(stream).square().sum().backward()
        trained = {name for name, p in detector.named_parameters() if p.grad is not None}
        assert {"linear.weight", "linear.bias"} <= trained
        assert ("backbone.ma_encoder.t_tr.layers.0.linear1.weight" in trained) == finetune
        assert not any("mm_fusion" in name or "b_emb" in name for name in trained)


def test_the_seed_decides_the_first_weights():
    first, again, other = (Detector(Backbone(8), ("joint",), 4, False, seed).linear.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)

import numpy as np
import pytest
import torch

from data_gen.skeletons import NTU_LAYOUT
from models.frozen import FrozenEncoder, Representation
from models.transformer import Transformer

ENCODER = FrozenEncoder(Transformer(2, ("joint", "bone"), NTU_LAYOUT), {})
STREAMS = (("joint", "bone"), ("joint",), ("bone",))


def features(size, seed, width=4):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(3, [1, 2, 3, 4] * (width // 4), (size, width))).float()


def test_the_plain_feature_is_left_as_it_is():
    plain = Representation.fit(ENCODER, "", features(5, 0))
    assert plain.name == "all" and plain(features(3, 1)).equal(features(3, 1))


@pytest.mark.parametrize("variant", ["centred", "standardised"])
def test_variants_take_mean_and_deviation_of_the_train_split(variant):
    train, val = features(50, 0), features(7, 1)
    made = Representation.fit(ENCODER.select("joint"), variant, train)
    mean, deviation = train.numpy().mean(0), train.numpy().std(0)
    expected = (val.numpy() - mean) / (deviation if variant == "standardised" else 1)
    assert made.name == f"joint_{variant}"
    np.testing.assert_allclose(made(val), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["", "centred", "standardised"])
def test_the_streams_of_an_ensemble_count_alike(variant):
    train, val = features(50, 0, 12), features(7, 1, 12)
    scaled = [1.0, 100.0, 0.01]  # the streams' sizes, which the cosine must not see
    weights = torch.tensor(scaled).repeat_interleave(4)
    one, other = (Representation.fit(ENCODER.select("ensemble"), variant, train * w)(val * w) for w in (1, weights))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one.view(7, 3, 4).norm(dim=2), torch.full((7, 3), 2.0))
    cosines = torch.nn.functional.normalize(one) @ torch.nn.functional.normalize(one).T
    of_streams = [Representation.fit(ENCODER, variant, t)(v) for t, v in zip(train.split(4, 1), val.split(4, 1))]
    mean = sum(torch.nn.functional.normalize(v) @ torch.nn.functional.normalize(v).T for v in of_streams) / 3
    torch.testing.assert_close(cosines, mean, rtol=1e-4, atol=1e-5)


def test_a_dimension_in_which_all_are_alike_is_no_infinity():
    train = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    made = Representation.fit(ENCODER, "standardised", train)
    assert made(torch.tensor([[5.0, 3.0]])).tolist() == [[0.0, 0.0]]

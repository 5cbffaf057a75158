import numpy as np
import pytest
import torch

from data_gen.skeletons import NTU_LAYOUT
from feeder.clips import ResampleClip
from feeder.modalities import MODALITIES, PUBLISHED, derive
from models.checkpoints import load, load_encoder_of
from models.transformer import EncoderLayer, Fusion, MergedEncoderLayer, MergedFusion, Transformer
from tests.feeder.test_clips import golden_source
from tests.helpers import GOLDEN, needs_compiler
from utils.errors import UserError

PARENTS = torch.tensor(NTU_LAYOUT.skeleton.parents)


def plain_and_merged(hidden_size: int = 16, modalities=PUBLISHED) -> tuple[Transformer, Transformer]:
    """The paper's layers, and those with merged products, of the same weights in float64."""
    torch.manual_seed(0)
    plain = Transformer(hidden_size, modalities, NTU_LAYOUT, Fusion, EncoderLayer).double()
    for parameter in plain.parameters():  # the default biases are zero
        torch.nn.init.normal_(parameter, std=0.3)
    merged = Transformer(hidden_size, modalities, NTU_LAYOUT).double()
    merged.load_state_dict(plain.state_dict())
    assert type(merged.layers["spatial"]) is MergedEncoderLayer and type(merged.fusion["temporal"]) is MergedFusion
    return plain, merged


@pytest.mark.parametrize(
    "key, modalities", [("y_u", PUBLISHED), ("y_j", ["joint"]), ("y_b", ["bone"]), ("y_m", ["motion"])]
)
def test_golden_features(key, modalities):
    encoder = load_encoder_of(load(GOLDEN / "official_h8.pth.tar"), GOLDEN)
    clip = ResampleClip()(golden_source().windows(slice(None)))
    with torch.inference_mode():
        feature = encoder(derive(clip, modalities, PARENTS))
    np.testing.assert_allclose(feature, np.load(GOLDEN / "downstream_h8.npz")[key], atol=1e-5)


def test_the_merged_products_are_the_papers_layers_in_value_and_gradient():
    encoders = plain_and_merged()
    clips = derive(torch.randn(3, 64, 2, 25, 3, dtype=torch.float64), PUBLISHED, PARENTS)
    gradients = []
    for encoder in encoders:
        feature = encoder(clips)
        (feature * torch.linspace(-1, 1, 32, dtype=torch.float64)).sum().backward()
        gradients.append([feature, *(p.grad for p in encoder.parameters())])
    for plain, merged in zip(*gradients):
        torch.testing.assert_close(merged, plain, atol=1e-9, rtol=1e-9)


def test_the_papers_layer_is_pytorchs_own():
    plain, _ = plain_and_merged()
    layer = plain.layers["temporal"]
    reference = torch.nn.TransformerEncoderLayer(16, 1, 16, dropout=0.0, batch_first=True).double()
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(3, 20, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x), reference(x), atol=1e-9, rtol=1e-9)


def test_early_fusion_is_the_mean_of_the_embeddings_through_the_fusions_linear():
    plain, _ = plain_and_merged()
    parts = [(e.temporal, torch.randn(3, 64, 150, dtype=torch.float64)) for e in plain.embeddings.values()]
    mean = torch.stack([embedding(tokens) for embedding, tokens in parts]).mean(0)
    torch.testing.assert_close(plain.fusion["temporal"](parts), mean @ plain.fusion["temporal"].weight.T)


def test_features_do_not_depend_on_the_rest_of_the_batch():
    torch.manual_seed(0)
    encoder = Transformer(16, PUBLISHED, NTU_LAYOUT).eval()
    clip = torch.randn(6, 64, 2, 25, 3)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    with torch.inference_mode():
        feature, permuted = (encoder(derive(c, PUBLISHED, PARENTS)) for c in (clip, clip[order]))
    torch.testing.assert_close(permuted, feature[order])


def test_order_in_time_matters_and_order_of_modalities_does_not():
    torch.manual_seed(0)
    encoder = Transformer(16, PUBLISHED, NTU_LAYOUT).eval()
    clip = torch.randn(2, 64, 2, 25, 3)
    clips = derive(clip, PUBLISHED, PARENTS)
    with torch.inference_mode():
        feature = encoder(clips)
        torch.testing.assert_close(encoder(dict(reversed(clips.items()))), feature)
        flipped = encoder(derive(clip.flip(1), PUBLISHED, PARENTS))
    assert (flipped[:, :16] - feature[:, :16]).abs().max() > 1e-2


def test_one_call_on_several_streams_gives_what_several_calls_would():
    torch.manual_seed(0)
    encoder = Transformer(16, PUBLISHED, NTU_LAYOUT)
    clips = derive(torch.randn(3, 64, 2, 25, 3), PUBLISHED, PARENTS)
    streams = [{m: clips[m] for m in stream} for stream in (*((m,) for m in PUBLISHED), PUBLISHED)]
    for feature, stream in zip(encoder.encode(streams), streams):
        torch.testing.assert_close(feature, encoder(stream), atol=1e-5, rtol=1e-5)


def test_initial_values_are_pytorchs_defaults():
    torch.manual_seed(0)
    encoder = Transformer(512, PUBLISHED, NTU_LAYOUT)
    first = encoder.embeddings["joint"].temporal[0].weight.detach()
    assert first.abs().max() <= 1 / np.sqrt(150) and first.std() == pytest.approx(1 / np.sqrt(450), rel=0.02)
    attention = encoder.layers["temporal"].self_attn
    assert attention.in_proj_weight.detach().std() == pytest.approx(np.sqrt(2 / (4 * 512)), rel=0.02)  # Xavier
    assert not attention.in_proj_bias.any() and not attention.out_proj.bias.any()


def test_every_modality_has_parts_of_its_own():
    encoder = Transformer(8, tuple(MODALITIES), NTU_LAYOUT)
    clips = derive(torch.randn(2, 64, 2, 25, 3), list(MODALITIES), PARENTS)
    for modality in MODALITIES:
        encoder.zero_grad()
        encoder({modality: clips[modality]}).sum().backward()
        trained = {
            name.split(".")[1]
            for name, p in encoder.embeddings.named_parameters(prefix="e")
            if p.grad is not None and p.grad.any()
        }
        assert trained == {modality}


def test_frame_features_are_frames_beside_the_spatial_feature():
    torch.manual_seed(0)
    encoder = Transformer(8, PUBLISHED, NTU_LAYOUT).eval()
    clips = derive(torch.randn(2, 64, 2, 25, 3), PUBLISHED, PARENTS)
    frames = encoder.frame_features(clips)
    assert frames.shape == (2, 64, encoder.feature_size)
    torch.testing.assert_close(frames.max(1).values, encoder(clips))


def test_an_odd_hidden_size_is_an_error_of_that_flag():
    with pytest.raises(UserError, match="--hidden-size 7"):
        Transformer(7, PUBLISHED, NTU_LAYOUT)


@pytest.mark.slow
@needs_compiler
def test_compiled_gradients_in_bf16_are_as_exact_as_eager_ones():
    torch.manual_seed(0)
    encoder = Transformer(64, PUBLISHED, NTU_LAYOUT)
    clips = derive(torch.randn(8, 64, 2, 25, 3), PUBLISHED, PARENTS)
    direction = torch.randn(8, 128)

    def encode(dtype):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return encoder(clips)

    def gradient(encode, dtype=torch.bfloat16):
        encoder.zero_grad()
        (encode(dtype).float() * direction).sum().backward()
        return torch.cat([p.grad.flatten() for p in encoder.parameters()])

    exact = gradient(encode, torch.float32)
    eager, compiled = ((gradient(f) - exact).norm() / exact.norm() for f in (encode, torch.compile(encode)))
    assert 0 < eager < 0.2 and compiled < 1.5 * eager

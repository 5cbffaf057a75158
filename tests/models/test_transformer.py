import numpy as np
import pytest
import torch
from feeder.modality_names import MODALITIES
from models.encoder import ModalityAgnosticEncoder
from models.loading import load, load_backbone, weights
from models.objective import umurl_loss

from feeder.clips import evaluation_view
from feeder.modalities import ModalityTokens, Tokens
from models.umurl import SimpleBaseline, UmURL
from tests.feeder.test_clips import golden_source
from tests.helpers import GOLDEN, needs_compiler, streams_of


@pytest.fixture
def golden():
    return np.load(GOLDEN / "pretrain_h8.npz")


@pytest.fixture
def official():
    return load(GOLDEN / "official_h8.pth.tar")


@pytest.fixture
def model(official):
    model = UmURL(8)
    model.load_state_dict(weights(official))
    return model.train()


def views_of(golden):
    return tuple(torch.from_numpy(golden[f"view{i}"]).permute(0, 2, 4, 3, 1) for i in (1, 2, 3, 4))


def test_golden_projections(model, golden):
    z = np.stack([p.detach()[:, :64] for p in model(streams_of(model, views_of(golden))).values()])
    # Some values are near zero: in float64, the same model is up to 3.5e-6 away from these float32 figures.
    np.testing.assert_allclose(z, golden["z"], rtol=1e-4, atol=1e-5)


def test_golden_loss_and_gradients(model, golden):
    loss = umurl_loss(model(streams_of(model, views_of(golden))))
    terms = loss.terms
    found = [loss.total, terms["intra"], terms["inter"], 5 * terms["std"] + terms["cov"]]
    np.testing.assert_allclose([x.item() for x in found], golden["loss"], rtol=1e-4)
    loss.total.backward()
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert sorted(norms) == golden["grad_names"].tolist()
    for name, expected in zip(golden["grad_names"], golden["grad_norms"]):
        assert abs(norms[name] - expected) <= 1e-4 * expected + 1e-3, name


@pytest.mark.parametrize(
    "key, modalities", [("y_u", MODALITIES), ("y_j", ["joint"]), ("y_b", ["bone"]), ("y_m", ["motion"])]
)
def test_golden_features(official, key, modalities):
    backbone = load_backbone(official, GOLDEN / "official_h8.pth.tar")
    clip = evaluation_view(golden_source().clips(slice(None)))
    with torch.inference_mode():
        feature = backbone(ModalityTokens()(clip, modalities))
    np.testing.assert_allclose(feature, np.load(GOLDEN / "downstream_h8.npz")[key], atol=1e-5)


def test_published_parameter_counts():
    model = UmURL(1024)
    assert sum(p.numel() for p in model.backbone.parameters()) == 22_067_200
    assert sum(p.numel() for p in model.parameters()) == 72_448_000


def test_published_keys(official):
    assert set(UmURL(8).state_dict()) == set(weights(official))


def test_features_do_not_depend_on_the_rest_of_the_batch():
    torch.manual_seed(0)
    backbone = UmURL(16).backbone.eval()
    clip = torch.randn(6, 64, 2, 25, 3)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    with torch.inference_mode():
        feature, permuted = (backbone(ModalityTokens()(c, MODALITIES)) for c in (clip, clip[order]))
    torch.testing.assert_close(permuted, feature[order])


def test_order_in_time_matters_and_order_of_modalities_does_not():
    torch.manual_seed(0)
    backbone = UmURL(16).backbone.eval()
    clip = torch.randn(2, 64, 2, 25, 3)
    tokens = ModalityTokens()(clip, MODALITIES)
    with torch.inference_mode():
        feature = backbone(tokens)
        torch.testing.assert_close(backbone(dict(reversed(tokens.items()))), feature)
        flipped = backbone(ModalityTokens()(clip.flip(1), MODALITIES))
    assert (flipped[:, :16] - feature[:, :16]).abs().max() > 1e-2


def test_one_encoder_call_gives_what_four_would():
    torch.manual_seed(0)
    model = UmURL(16)
    streams = streams_of(model, torch.randn(4, 3, 64, 2, 25, 3))
    assert [list(stream) for stream in streams] == [["joint"], ["bone"], ["motion"], ["joint", "bone", "motion"]]
    for feature, stream in zip(model.backbone.encode(streams), streams):
        torch.testing.assert_close(feature, model.backbone(stream), atol=1e-5, rtol=1e-5)


def test_early_fusion_is_the_mean_of_the_embeddings_through_the_fusions_linear():
    torch.manual_seed(0)
    backbone = UmURL(16).backbone.double()
    tokens = ModalityTokens()(torch.randn(3, 64, 2, 25, 3, dtype=torch.float64), MODALITIES)
    embeddings = [backbone.j_emb, backbone.b_emb, backbone.m_emb]
    embedded = [embedding(t) for embedding, t in zip(embeddings, tokens.values())]
    fused = backbone.mm_fusion(embeddings, list(tokens.values()))
    for kind, fusion in (("temporal", backbone.mm_fusion.t_fusion), ("spatial", backbone.mm_fusion.s_fusion)):
        mean = torch.stack([getattr(e, kind) for e in embedded]).mean(0)
        torch.testing.assert_close(getattr(fused, kind), fusion(mean))


def test_attention_equals_pytorchs_own_layer_in_value_and_gradient():
    torch.manual_seed(0)
    layer = UmURL(16).backbone.ma_encoder.t_tr.layers[0]
    reference = torch.nn.TransformerEncoderLayer(16, 1, 16, dropout=0.0, batch_first=True)
    for p in layer.parameters():  # the default biases are zero
        torch.nn.init.normal_(p, std=0.5)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(3, 20, 16)
    outputs = [module(x) for module in (layer, reference)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(x)
    for output in outputs:
        (output * weight).sum().backward()
    for (name, p), q in zip(layer.named_parameters(), reference.parameters()):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_initial_values_are_pytorchs_defaults():
    torch.manual_seed(0)
    backbone = UmURL(512).backbone
    first = backbone.j_emb.t_embedding[0].weight.detach()
    assert first.abs().max() <= 1 / np.sqrt(150) and first.std() == pytest.approx(1 / np.sqrt(450), rel=0.02)
    attention = backbone.ma_encoder.t_tr.layers[0].self_attn
    assert attention.in_proj_weight.detach().std() == pytest.approx(np.sqrt(2 / (4 * 512)), rel=0.02)  # Xavier
    assert not attention.in_proj_bias.any() and not attention.out_proj.bias.any()


@pytest.mark.parametrize("modalities", [("joint",), ("joint", "motion"), ("bone", "motion")])
def test_fewer_modalities_are_the_whole_model_without_the_rest(modalities):
    torch.manual_seed(0)
    few, whole = UmURL(16, modalities).eval(), UmURL(16).eval()
    whole.load_state_dict(whole.state_dict() | few.state_dict())
    assert set(few.backbone.state_dict()) == set(whole.backbone.state_dict())
    views = torch.randn(4, 5, 64, 2, 25, 3)
    chosen = [views[MODALITIES.index(m)] for m in modalities]
    streams = streams_of(few, [*chosen, views[3]])
    found = few(streams)
    assert list(found) == [*modalities, *(f"multi_{m}" for m in modalities)]
    multi = whole.backbone(streams[-1])
    for m, stream in zip(modalities, streams):
        projector = whole.get_submodule(f"{m[0]}_projector")
        torch.testing.assert_close(found[m], projector(whole.backbone(stream)), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[f"multi_{m}"], projector(multi), atol=1e-4, rtol=1e-4)
    sum(p.sum() for p in found.values()).backward()
    untrained = {name for name, p in few.named_parameters() if p.grad is None}
    unused = [f"backbone.{m[0]}_emb" for m in MODALITIES if m not in modalities]
    unused += ["backbone.mm_fusion"] * (len(modalities) == 1)
    assert untrained == {name for name, _ in few.named_parameters() if name.startswith(tuple(unused))}


def test_the_baseline_is_two_fused_views_through_one_projector():
    torch.manual_seed(0)
    model = SimpleBaseline(16).eval()
    views = torch.randn(2, 5, 64, 2, 25, 3)
    streams = streams_of(model, views)
    for found, stream in zip(model(streams).values(), streams):
        feature = model.backbone(stream)
        torch.testing.assert_close(found, model.projector(feature), atol=1e-4, rtol=1e-4)
    model.train()
    views[1] += 5  # batch statistics are those of one view
    moved, same = streams_of(model, views), streams_of(model, (views[0], views[0]))
    torch.testing.assert_close(model(moved)["view_1"], model(same)["view_1"])


@pytest.mark.slow
@needs_compiler
def test_compiled_gradients_in_bf16_are_as_exact_as_eager_ones():
    torch.manual_seed(0)
    encoder, tokens = ModalityAgnosticEncoder(64), Tokens(torch.randn(8, 64, 64), torch.randn(8, 50, 64))
    direction = torch.randn(8, 128)

    def encode(dtype):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return encoder(Tokens(*(t.to(dtype) for t in tokens)))

    def gradient(encode, dtype=torch.bfloat16):
        encoder.zero_grad()
        (encode(dtype).float() * direction).sum().backward()
        return torch.cat([p.grad.flatten() for p in encoder.parameters()])

    exact = gradient(encode, torch.float32)
    eager, compiled = ((gradient(f) - exact).norm() / exact.norm() for f in (encode, torch.compile(encode)))
    assert 0 < eager < 0.2 and compiled < 1.5 * eager

import json
import os

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data_gen.raw.normalise import normalise
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.recipes import ClassifierRecipe
from feeder.augment import training_view
from feeder.modalities import MODALITIES, Tokens
from feeder.sampling import StepRandom
from models import loading, umurl
from models.encoder import Backbone
from models.objective import umurl_loss
from models.umurl import UmURL, name_projections
from tests import baselines
from tests.helpers import GOLDEN, moving_body, run_python, skeleton_text
from tools.benchmark import __main__ as program
from tools.benchmark import flops, measure
from tools.benchmark.figures import QUICK
from tools.benchmark.simulate import LENGTHS, clip_source, skeleton_texts
from tools.benchmark.stages import STAGES, run_stage
from tools.evaluation.features import extract_features
from tools.evaluation.knn import nearest
from tools.evaluation.probe import LinearProbe, train_probes
from tools.utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return clip_source(tmp_path_factory.mktemp("packed"), 24, 30, CPU)


@pytest.fixture
def small_projections(monkeypatch):
    """Else the plain objective's 4096×4096 matrices take most of the time."""
    for module in (umurl, flops):
        monkeypatch.setattr(module, "PROJECTION_SIZE", 128)


def four_views(source, size=8):
    clips = source.clips(slice(0, size), StepRandom.for_step(0, 0, 0, size, slice(None)))
    return tuple(training_view()(clips) for _ in range(4))


def counted(model, views, forward) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        sum(p.square().sum() for p in forward(model, views).values()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("hidden, batch", [(16, 3), (24, 2)])
def test_flops_are_those_pytorch_counts_in_the_plain_model(source, hidden, batch):
    views = tuple(view[:batch] for view in four_views(source))
    assert counted(UmURL(hidden), views, baselines.forward) == flops.training_flops(hidden, batch)


def test_the_product_computes_no_more_than_the_formula_says(source):
    hidden, views = 64, four_views(source)
    assert counted(UmURL(hidden), views, lambda model, x: model(x)) <= flops.training_flops(hidden, len(views[0]))


def test_largest_product_is_the_largest_that_is_called(source):
    shapes = []

    class Products(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.nn.functional.linear:
                shapes.append((args[0].shape[:-1].numel(), args[0].shape[-1], len(args[1])))
            return function(*args, **(kwargs or {}))

    m, k, n = flops.largest_product(32, 8)
    with Products():
        UmURL(32).backbone.ma_encoder(Tokens(torch.randn(32, 64, 32), torch.randn(32, 50, 32), torch.randn(0, 26, 32)))
    assert (m, k) in {shape[:2] for shape in shapes} and m * k * n >= max(a * b * c for a, b, c in shapes)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.usefixtures("small_projections")
def test_every_stage_and_its_baseline(name):
    rows = run_stage(name, CPU, QUICK, baseline=True)
    assert json.loads(json.dumps(rows)) == rows
    for row in rows:
        seconds, memory = row["seconds"], row["memory"]
        assert row["stage"] == name and 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
        assert row["per_second"] == pytest.approx(1 / seconds["median"])
        assert row["limit"]["median"] > 0 and row["share_of_limit"] == pytest.approx(
            row["needs"] / row["limit"]["median"] / seconds["median"]
        )
        assert 0 < memory["before"] and 0 < memory["peak"]
    assert rows[0]["baseline"]["ratio"] == pytest.approx(rows[0]["baseline"]["seconds"]["median"] / seconds_of(rows))
    assert ("extrapolated" in rows[0]["note"]) == (name in ("epoch", "probe", "retrieve"))


def seconds_of(rows) -> float:
    return rows[0]["seconds"]["median"]


def test_the_command_prints_a_table_and_writes_every_figure(tmp_path):
    done = run_python("-m", "tools.benchmark", "feed", "--quick", "--device", "cpu", "--json", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    assert "| stage | what" in done.stdout and "4 views, batch 8" in done.stdout and "copy memory" in done.stdout
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["machine"]["device"] == "cpu" and result["machine"]["torch"] == str(torch.__version__)
    assert result["sizes"]["feed_batch"] == 8 and [row["stage"] for row in result["rows"]] == ["feed"]


def test_what_cannot_be_measured_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        program.parse_args(["nonsense"])
    assert "no stage nonsense; there are convert, feed" in capsys.readouterr().err
    assert tuple(STAGES) == program.NAMES
    monkeypatch.setattr(program, "_has_baselines", lambda: False)
    with pytest.raises(UserError, match="--baseline needs tests/baselines.py"):
        program.main(["feed", "--quick", "--device", "cpu", "--baseline"])


def test_sizes_by_device_and_flags():
    cpu = program.choose_sizes(program.parse_args([]), "cpu")
    gpu = program.choose_sizes(program.parse_args(["--batch-size", "1024"]), "cuda")
    assert (cpu.hidden_size, cpu.batch_size, cpu.epoch_steps) == (256, 128, 2)
    assert (gpu.hidden_size, gpu.batch_size, gpu.epoch_steps, gpu.probe_measured) == (1024, 1024, None, 150)
    whole = program.choose_sizes(program.parse_args(["--whole"]), "cpu")
    assert (whole.epoch_steps, whole.probe_measured, whole.retrieve_measured) == (None, 150, 16487)


def test_a_timing_is_taken_after_warming_up_and_short_calls_are_repeated():
    calls = []
    timing = measure.measure(lambda: calls.append(0), CPU, 3, lambda: calls.append(1))
    assert calls[0] == 1 and sum(calls) == 1 and len(timing.runs) == 3 and timing.median < 1e-3
    assert timing.times(2).median == 2 * timing.median


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="earlier peaks cannot be forgotten")
def test_peak_memory_is_what_was_held_since():
    memory = measure.PeakMemory(CPU)
    torch.ones(2**24)
    figures = memory.figures()
    assert figures["peak"] - figures["before"] >= 4 * 2**24
    again = measure.PeakMemory(CPU).figures()
    assert again["peak"] - again["before"] < 2**24


def test_simulated_data_has_the_shape_of_ntu(tmp_path):
    texts = skeleton_texts(5, 10)
    bodies = [parse_skeleton(text) for text in texts]
    assert [b.shape[:2] for b in bodies] == [(10, 1)] * 4 + [(10, 2)]
    assert len(texts[0]) / 10 == pytest.approx(2800, rel=0.05)  # of NTU: some 280 kB for 100 frames
    source = clip_source(tmp_path, 500, 900, CPU)
    assert len(source) == 900 and source.num_frame.min() >= LENGTHS[0] and source.num_frame.max() <= LENGTHS[1]
    assert source.num_frame.double().mean().item() == pytest.approx(84, abs=6)


@pytest.mark.parametrize("late", [False, True])
def test_plain_conversion(late):
    rng = np.random.default_rng(0)
    frames = [a + b for a, b in zip(moving_body(rng, 30), moving_body(rng, 30))]
    frames[0 if late else 5] = []
    frames[8] = frames[8][:1]
    frames[20:] = [frame[:1] for frame in frames[20:]]
    text = skeleton_text(frames)
    bodies = parse_skeleton(text)
    assert np.array_equal(baselines.parse(text.decode()), bodies)
    np.testing.assert_allclose(baselines.convert(text, 2), normalise(bodies), atol=1e-6)


def test_plain_views(source):
    def clips():
        return source.clips(slice(None), StepRandom.for_step(0, 0, 0, len(source), slice(None)))

    torch.testing.assert_close(baselines.training_view(clips()), training_view()(clips()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows, dims", [(10, 64), (64, 10)])
def test_plain_objective(rows, dims):
    z = torch.randn(6, rows, dims, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values = umurl_loss(name_projections(z)).total, baselines.loss(name_projections(z))
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-5)
    gradients = [torch.autograd.grad(value, z)[0] for value in values]
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


@pytest.mark.usefixtures("small_projections")
def test_plain_step(source):
    torch.manual_seed(0)
    model, views = UmURL(16).train(), four_views(source)
    product = umurl_loss(model(views)).total
    trainer = baselines.PlainTrainer(model, 1e-3, 1e-5, None)
    assert trainer.step(views) == pytest.approx(product.item(), rel=1e-4)
    assert trainer.step(views) != pytest.approx(product.item(), rel=1e-4)  # it has learnt


def test_the_plain_model_and_objective_give_the_published_loss():
    golden = np.load(GOLDEN / "pretrain_h8.npz")
    model = UmURL(8).train()
    model.load_state_dict(loading.weights(loading.load(GOLDEN / "official_h8.pth.tar")))
    views = tuple(torch.from_numpy(golden[f"view{i}"]).permute(0, 2, 4, 3, 1) for i in (1, 2, 3, 4))
    with torch.no_grad():
        loss = baselines.loss(baselines.forward(model, views))
    assert loss.item() == pytest.approx(golden["loss"][0], rel=1e-4)


def test_plain_probe(source):
    torch.manual_seed(0)
    backbone, recipe = Backbone(8).eval(), ClassifierRecipe(0.03, 12, (6, 10), 7)
    (feature,) = extract_features(backbone, source, [MODALITIES], CPU)
    probe = LinearProbe(feature, source.label, 60, recipe, [3])
    product = train_probes({"all": probe}, {"all": feature}, source.label, {})["all"]
    plain = baselines.PlainProbe(backbone, 60, recipe, 3).run(source, source)
    assert plain == [(v.epoch, pytest.approx(v.top1[0]), pytest.approx(v.top5[0])) for v in product]
    assert product[-1].top1[0] > product[0].top1[0]


def test_plain_retrieval():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(20, 16)), rng.normal(size=(300, 16))
    product = nearest(torch.from_numpy(queries), torch.from_numpy(gallery), 1)[:, 0]
    assert np.array_equal(baselines.nearest(queries, gallery), product.numpy())

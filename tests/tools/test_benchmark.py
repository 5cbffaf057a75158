import json
import time

import numpy as np
import pytest
import torch
from models.objective import umurl_loss
from tools.utils.errors import UserError
from tools.utils.options import output_file

from data_gen.raw.normalise import normalise
from data_gen.raw.skeleton_file import parse_skeleton
from models import flops, loading, umurl
from models.umurl import UmURL
from tests.helpers import GOLDEN, moving_body, skeleton_text
from tools.benchmark import __main__ as program
from tools.benchmark import baselines
from tools.benchmark.measure import measure
from tools.benchmark.rows import Setup, check_same
from tools.benchmark.simulate import LENGTHS, simulated_dataset, skeleton_texts
from tools.benchmark.stages import STAGES, run_stage

CPU = torch.device("cpu")
QUICK = program.choose_sizes(program.parse_args(["--quick"]), "cpu")


@pytest.fixture
def small_projections(monkeypatch):
    """Else the plain objective's 4096×4096 matrices take most of the time."""
    for module in (umurl, flops):
        monkeypatch.setattr(module, "PROJECTION_SIZE", 128)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.usefixtures("small_projections")
def test_every_stage_gives_the_result_of_its_baseline(name, capsys):
    rows = run_stage(name, Setup(CPU, QUICK, baseline=True))
    assert json.loads(json.dumps(rows)) == json.loads(json.dumps(rows, allow_nan=False))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) and all(row["what"] in line for row, line in zip(rows, lines))
    for row in rows:
        seconds = row["seconds"]
        assert row["stage"] == name and 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
        assert row["per_second"] == pytest.approx(1 / seconds["median"]) and row["peak_memory"] > 2**20
        assert row["share_of_limit"] == pytest.approx(row["needs"] / row["limit"]["rate"] / seconds["median"])
    if name != "epoch":
        ratio = rows[0]["baseline"]["seconds"]["median"] / rows[0]["seconds"]["median"]
        assert rows[0]["baseline"]["ratio"] == pytest.approx(ratio)
    assert ("extrapolated" in rows[0]["note"]) == (name in ("epoch", "features", "probe", "retrieve"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("name", STAGES)
def test_every_stage_on_a_gpu(name):
    rows = run_stage(name, Setup(torch.device("cuda"), QUICK, compile="off", baseline=True, profile=True))
    assert all(row["seconds"]["median"] > 0 and row["share_of_limit"] > 0 for row in rows)


@pytest.mark.usefixtures("small_projections")
def test_the_step_is_measured_with_and_without_feeding_and_profiled():
    fed, bare = run_stage("step", Setup(CPU, QUICK, profile=True))
    assert fed["what"].startswith("with feeding") and bare["what"].startswith("without feeding")
    difference = fed["seconds"]["median"] - bare["seconds"]["median"]
    assert bare["feeding_seconds"] == pytest.approx(difference)
    assert fed["samples_per_second"] == pytest.approx(QUICK.batch_size * fed["per_second"])
    (total, _, name), *kernels = bare["profile"]
    assert name == "all" and total >= sum(ms for ms, *_ in kernels) > 0 and kernels == sorted(kernels, reverse=True)


def test_a_plain_version_with_another_result_is_noticed(monkeypatch):
    monkeypatch.setattr(baselines, "nearest", lambda queries, gallery: np.zeros(len(queries), int))
    with pytest.raises(RuntimeError, match="retrieve: the plain version's result differs"):
        run_stage("retrieve", Setup(CPU, QUICK, baseline=True))
    check_same("equal", torch.tensor([1000.0, 0.1]), np.array([1000.01, 0.10001]), 1e-4)
    with pytest.raises(RuntimeError, match="differs by nan"):
        check_same("broken", float("nan"), 0, 1)


def test_the_command_prints_rows_and_the_largest_kernels(capfd):
    program.main(["step", "--quick", "--device", "cpu", "--profile"])
    lines = capfd.readouterr().out.splitlines()
    assert lines[2].startswith("| stage     | what") and lines[4].startswith("| step      | with feeding, hidden 8")
    assert "limit" in lines[5] and lines[7].startswith("| ms a step") and "| all" in lines[9]


def test_rows_are_kept_where_a_later_stage_fails(tmp_path, capfd):
    target = tmp_path / "b.json"
    with pytest.raises(UserError, match="--amp fp16 needs a GPU"):
        program.main(["feed", "step", "--quick", "--device", "cpu", "--amp", "fp16", "--json", str(target)])
    assert "4 views, batch 8" in capfd.readouterr().out and list(tmp_path.iterdir()) == [target]
    result = json.loads(target.read_text())
    assert [row["stage"] for row in result["rows"]] == ["feed"] and result["sizes"]["feed_batch"] == 8
    assert result["machine"]["device"] == "cpu" and result["machine"]["torch"] == str(torch.__version__)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["nonsense"], "no stage nonsense; there are convert, feed"),
        (["--hidden-size", "7"], "--hidden-size must be even"),
        (["--batch-size", "1"], "--batch-size at least 2"),
        (["--json", "/no/such/folder/b.json"], "there is no folder /no/such/folder"),
        (["--json", "/"], "/ is a folder; name a file"),
    ],
)
def test_what_cannot_be_measured_or_written_is_refused_first(flags, message, capsys):
    with pytest.raises(SystemExit):
        program.main([*flags, "--quick"])
    assert message in capsys.readouterr().err
    assert tuple(STAGES) == program.NAMES


def test_a_file_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    assert output_file(str(tmp_path / "b.json")) == tmp_path / "b.json" and not list(tmp_path.iterdir())

    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # the tests may run as root, whom nothing is refused
    with pytest.raises(program.argparse.ArgumentTypeError, match="cannot be written: Permission denied"):
        output_file(str(tmp_path / "b.json"))


def test_sizes_by_device_and_flags():
    cpu = program.choose_sizes(program.parse_args([]), "cpu")
    gpu = program.choose_sizes(program.parse_args(["--batch-size", "1024"]), "cuda")
    assert (cpu.hidden_size, cpu.batch_size, cpu.epoch_steps, cpu.queued_steps) == (256, 128, 2, 1)
    assert (gpu.hidden_size, gpu.batch_size, gpu.epoch_steps, gpu.queued_steps) == (1024, 1024, None, 20)
    whole = program.choose_sizes(program.parse_args(["--whole"]), "cpu")
    for sizes in (gpu, whole):
        assert (sizes.features_measured, sizes.probe_measured, sizes.retrieve_measured) == (56578, 150, 16487)


def test_a_timing_is_taken_after_a_call_that_is_not_counted():
    calls = []

    def call():
        calls.append(0)
        time.sleep(0.1)

    measured = measure(call, CPU, 0.25, units=10)
    assert 0 < len(measured.times) == len(calls) - 1 and min(measured.times) >= 0.01
    assert sum(measured.times) >= 0.025


def test_peak_memory():
    assert measure(lambda: torch.ones(2**28), CPU, 0).memory > 2**30


def test_simulated_data_has_the_shape_of_ntu(tmp_path):
    texts = skeleton_texts(5, 10)
    bodies = [parse_skeleton(text) for text in texts]
    assert [b.shape[:2] for b in bodies] == [(10, 1)] * 4 + [(10, 2)]
    assert len(texts[0]) / 10 == pytest.approx(2800, rel=0.05)  # of NTU: some 280 kB for 100 frames
    source = simulated_dataset(tmp_path, 500, 900, CPU)
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


@pytest.mark.parametrize("rows, dims", [(10, 64), (64, 10)])
def test_plain_objective(rows, dims):
    z = torch.randn(6, rows, dims, generator=torch.Generator().manual_seed(0), requires_grad=True)
    projections = dict(zip(("joint", "bone", "motion", "multi_joint", "multi_bone", "multi_motion"), z))
    product, plain = umurl_loss(projections).total, baselines.loss(projections)
    assert product.item() == pytest.approx(plain.item(), rel=1e-5)
    a, b = (torch.autograd.grad(value, z, retain_graph=True)[0] for value in (product, plain))
    assert (a - b).norm() <= 1e-5 * b.norm()


def test_the_plain_model_and_objective_give_the_published_loss():
    golden = np.load(GOLDEN / "pretrain_h8.npz")
    model = UmURL(8).train()
    model.load_state_dict(loading.weights(loading.load(GOLDEN / "official_h8.pth.tar")))
    views = tuple(torch.from_numpy(golden[f"view{i}"]).permute(0, 2, 4, 3, 1) for i in (1, 2, 3, 4))
    with torch.no_grad():
        loss = baselines.loss(baselines.forward(model, views))
    assert loss.item() == pytest.approx(golden["loss"][0], rel=1e-4)

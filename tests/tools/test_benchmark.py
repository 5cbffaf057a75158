import itertools
import json
import time

import numpy as np
import pytest
import torch

from models import umurl
from tests.programs import call
from tools.benchmark import stages
from tools.benchmark.__main__ import STAGES
from tools.benchmark.measure import cells, count_flops, measure
from tools.benchmark.stages import QUICK, Bench

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_projections(monkeypatch):
    monkeypatch.setattr(umurl, "PROJECTION_SIZE", 128)


def check(rows, name):
    assert rows and json.dumps(rows, allow_nan=False)
    for row in rows:
        assert row["stage"] == name and row["items"] > 0 and row["amount"] > 0 and row["limit"]["rate"] > 0
        assert 0 < min(row["times"]) <= row["seconds"] <= max(row["times"])


ENCODERS = [*((name, "transformer") for name in STAGES), ("step", "stgcn"), ("features", "stgcn")]


@pytest.mark.parametrize("name, encoder", ENCODERS)
def test_every_stage_yields_rows(name, encoder):
    check(list(getattr(stages, name)(Bench(CPU, QUICK, encoder))), name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("name", STAGES)
def test_every_stage_on_a_gpu(name):
    rows = list(getattr(stages, name)(Bench(torch.device("cuda"), QUICK, amp="bf16", profile=True)))
    check(rows, name)
    assert all(row["memory"] > 0 for row in rows if name != "convert")


def test_the_command_prints_a_table_and_the_kernels_and_writes_json(tmp_path):
    target = tmp_path / "b.json"
    ended = call("tools.benchmark", "step", "feed", "--quick", "--device", "cpu", "--profile", "--json", target)
    lines = ended.out.splitlines()
    assert ended.status == 0 and lines[2].startswith("| stage") and "aten::addmm" in ended.out
    assert [line.split()[1] for line in lines[4:7]] == ["step", "step", "feed"]
    result = json.loads(target.read_text())
    assert [row["stage"] for row in result["rows"]] == ["step", "step", "feed"] and result["sizes"]["batch_size"] == 6


def test_a_run_makes_several_calls_after_one_that_does_not_count(monkeypatch):
    ticks, calls = itertools.chain(*((0, t) for t in (100, 8, 2, 6, 4))), []
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    times = measure(lambda: calls.append(0), CPU, seconds=20, repeats=2)
    assert times == [4, 1, 3, 2] and len(calls) == 10


def test_a_row_tells_the_median_and_the_share_of_the_limit(monkeypatch):
    monkeypatch.setattr(stages, "measure", lambda *args: [0.002, 0.010, 0.004])
    limit = {"name": "product", "unit": "FLOP", "rate": 4e9}
    row = Bench(CPU, QUICK).row("step", "small", print, 6, "clips", 8e6, limit)
    assert row["seconds"] == 0.004 and row["share"] == pytest.approx(0.5)
    assert cells(row)[2:5] == ["4.0 (2.0 – 10.0)", "1,500 clips", "50 % of 4 GFLOP/s (product)"]


@pytest.mark.parametrize("context", [torch.enable_grad, torch.inference_mode])
def test_operations_of_a_linear(context):
    m, n, k = 5, 7, 11
    with context():
        assert count_flops(lambda: torch.nn.Linear(k, n)(torch.ones(m, k))) == 2 * m * n * k


def test_simulated_clips_have_the_numbers_of_ntu():
    clips = stages.simulate_clips(900, 500, CPU)
    assert len(clips) == 900 and len(np.unique(clips.first)) == 500 and clips.num_frame.max() <= 300
    assert clips.num_frame.double().mean().item() == pytest.approx(84, abs=6)

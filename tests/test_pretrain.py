import json
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import action_retrieval
import pretrain as program
from feeder import augment
from feeder.augment import RandomMirror
from feeder.clips import ResampleClip
from feeder.modalities import PUBLISHED
from models import checkpoints
from models.checkpoints import load, newest
from models.umurl import UmURL
from tests.helpers import GOLDEN, make_method, needs_compiler, run_python, tiny_dataset
from tests.processes import run_together
from tests.runs import assert_equal_runs, figures, launched, of
from tools.training.acceleration import choose_amp, sizes_to_compile
from tools.training.recipes import pretrain_recipe
from tools.training.report import duration, progress_text
from utils.errors import UserError
from utils.files import read_results

# Gradients that are zero in exact arithmetic, so that Adam follows their rounding noise: biases that a batch norm
# or a softmax takes away again, and what merely tracks them.
NOISE = (".0.bias", ".3.bias", "norm2.bias", "in_proj_bias", "running_mean")


def test_a_resumed_run_equals_an_uninterrupted_one(pretrain, tmp_path):
    flags = ["--schedule", "2", "3", "--save-freq", "2"]
    whole = pretrain.run(*flags, "--epochs", "5", folder=tmp_path / "whole_demo_x" / "demo")
    for stop in (1, 4):
        earlier = [at for at in ("2", "3") if int(at) < stop]
        parts = pretrain.run(
            *flags[:1], *earlier, *flags[3:], "--epochs", str(stop), folder=tmp_path / f"stop{stop}" / "demo"
        )
        assert_equal_runs(pretrain.run(*flags, "--epochs", "5", folder=parts), whole, 5)


def test_the_rate_follows_the_schedule(pretrain):
    folder = pretrain.run("--epochs", "4", "--schedule", "1", "3", "--lr", "0.01")
    assert [line["lr"] for line in figures(folder)] == pytest.approx([0.01, 0.001, 0.001, 0.0001])


def test_checkpoints_are_named_by_the_last_epochs_index_and_say_what_they_hold(pretrain):
    folder = pretrain.run("--epochs", "6", "--save-freq", "2")
    names = sorted(p.name for p in folder.glob("*.pth.tar"))
    assert names == [f"checkpoint_{i:04d}.pth.tar" for i in (0, 2, 4, 5)]
    state = load(folder / "checkpoint_0004.pth.tar")
    assert state["epoch"] == 5 and (state["dataset"], state["protocol"]) == ("demo", "xsub")
    assert state["args"]["hidden_size"] == 8 and state["versions"]["torch"] == str(torch.__version__)
    assert (state["encoder"]["name"], state["encoder"]["modalities"]) == ("transformer", list(PUBLISHED))
    assert not list(folder.glob("*.partial"))


def test_epoch_zero_is_the_untrained_encoder(pretrain):
    state = load(newest(pretrain.run("--epochs", "0", "--seed", "3")))
    torch.manual_seed(3)
    torch.testing.assert_close(state["state_dict"], dict(make_method(8).state_dict()), rtol=0, atol=0)
    assert state["epoch"] == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(recordings=11),
        lambda s: s.update(data="0" * 64),
        lambda s: s["optimizer"].update(state={}),
        lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)),
        lambda s: s["optimizer"]["state"][0].update(exp_avg_sq=None),
        lambda s: s.pop("optimizer"),
        lambda s: s.update(step=10**6),
        lambda s: s.update(step=1),  # without a meter
        lambda s: s["state_dict"]["projectors.joint.0.bias"].fill_(np.inf),
        lambda s: s["state_dict"].pop("projectors.joint.0.bias"),
    ],
)
def test_a_checkpoint_that_cannot_be_resumed_from_is_refused(pretrain, tmp_path, change):
    state = load(newest(pretrain.run("--epochs", "1")))
    change(state)
    torch.save(state, tmp_path / "odd.pth.tar")
    with pytest.raises(UserError, match="odd.pth.tar"):
        pretrain.run("--resume", tmp_path / "odd.pth.tar")


def test_hyperparameters_are_the_runs_own(pretrain):
    path = newest(pretrain.run("--epochs", "1"))
    state = load(path)
    expected = load(newest(pretrain.run("--epochs", "2")))["state_dict"]
    state["optimizer"]["param_groups"][0].update(weight_decay=5, betas=(0.1, 0.1), amsgrad=True)
    torch.save(state, path)
    resumed = load(newest(pretrain.run("--epochs", "2", "--resume", path)))["state_dict"]
    torch.testing.assert_close(resumed, expected, rtol=0, atol=0)


@pytest.mark.parametrize("flags", [["--seed", "-1"], ["--lr", "0"], ["--wd", "nan"], ["--epochs", "-1"]])
def test_values_out_of_range_are_refused(pretrain, flags, capsys):
    with pytest.raises(SystemExit):
        pretrain.run(*flags)
    assert f"argument {flags[0]}" in capsys.readouterr().err


def test_a_finished_run_is_left_alone(pretrain):
    folder = pretrain.run()
    before = {p.name: p.read_bytes() for p in folder.glob("checkpoint*")}
    pretrain.run()
    assert before == {p.name: p.read_bytes() for p in folder.glob("checkpoint*")}


def test_another_schedule_in_mid_run_is_warned_of(pretrain, capsys):
    pretrain.run("--epochs", "1", "--schedule")
    pretrain.run("--epochs", "2", "--schedule")
    assert "--schedule" not in capsys.readouterr().err
    pretrain.run("--epochs", "4", "--schedule", "3")
    assert "--schedule was [], now it is [3]" in capsys.readouterr().err


def test_resume_none_starts_again_and_a_file_can_be_named(pretrain, tmp_path):
    folder = pretrain.run("--epochs", "3", "--seed", "1")
    pretrain.run("--epochs", "2", "--resume", "none")
    assert len(figures(folder)) == 2 and newest(folder).name == "checkpoint_0001.pth.tar"
    pretrain.run("--epochs", "3")
    other = tmp_path / "other" / "demo"
    pretrain.run("--epochs", "3", "--resume", folder / "checkpoint_0001.pth.tar", folder=other)
    a, b = (load(f / "checkpoint_0002.pth.tar")["state_dict"] for f in (folder, other))
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    "flags, place",
    [
        (["--batch-size", "1"], "--batch-size 1"),
        (["--amp", "fp16"], "--amp fp16"),
        (["--protocol", "xsetup"], "xsetup"),
        (["--pre-dataset", "ntu60"], "ntu60"),
        (["--hidden-size", "7"], "--hidden-size 7"),
        (["--schedule", "1", "5", "--epochs", "5"], "--schedule 5"),
        (["--schedule", "1", "1"], "--schedule 1 1"),
        (["--resume", "nowhere.pth.tar"], "nowhere.pth.tar"),
        (["--method", "baseline", "--inter-weight", "1"], "--inter-weight"),
        (["--augment", "blur"], "--augment blur"),
    ],
)
def test_contradictions_are_refused_at_the_start(pretrain, tmp_path, flags, place):
    with pytest.raises(UserError, match=place):
        pretrain.run(*flags, folder=tmp_path / "new" / "demo")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "flags", [["--hidden-size", "16"], ["--seed", "1"], ["--wd", "0.1"], ["--cov-weight", "2"], ["--encoder", "stgcn"]]
)
def test_another_runs_checkpoint_is_refused_by_the_flag_that_differs(pretrain, flags):
    pretrain.run("--epochs", "1")
    with pytest.raises(UserError, match=rf"{flags[0]} \S+ \(now {flags[1]}"):
        pretrain.run(*flags)


def test_an_argument_that_an_older_checkpoint_lacks_counts_as_its_default(pretrain):
    path = newest(pretrain.run("--epochs", "1"))
    state = load(path)
    for name in ("encoder", "augment", "cov_weight", "wd"):  # as of flags that are newer than the checkpoint
        del state["args"][name]
    torch.save(state, path)
    for flags in (["--augment", "mirror"], ["--cov-weight", "2"]):
        with pytest.raises(UserError, match=flags[0]):
            pretrain.run(*flags)
    assert len(figures(pretrain.run())) == 2


def test_a_run_of_an_earlier_version_is_resumed(pretrain, tmp_path):
    """Its checkpoints have the published keys, and other names for two entries."""
    folder = pretrain.run("--epochs", "1")
    expected = load(newest(pretrain.run("--epochs", "2")))
    state = load(folder / "checkpoint_0000.pth.tar")
    published = torch.load(GOLDEN / "official_h8.pth.tar", weights_only=True)["state_dict"]
    state["state_dict"] = dict(zip(published, state["state_dict"].values()))
    state["body"] = state.pop("encoder")["layout"]
    state["args"] = {name: value for name, value in state["args"].items() if name not in ("encoder", "augment")}
    state["args"]["objective"] = state["args"].pop("method")
    torch.save(state, tmp_path / "old.pth.tar")
    resumed = load(newest(pretrain.run("--epochs", "2", "--resume", tmp_path / "old.pth.tar")))
    torch.testing.assert_close(resumed["state_dict"], expected["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(resumed["optimizer"]["state"], expected["optimizer"]["state"], rtol=0, atol=0)


def test_other_augmentations_are_another_run(pretrain, monkeypatch):
    folder = pretrain.run("--epochs", "1")
    with pytest.raises(UserError, match="--augment published"):
        pretrain.run("--augment", "mirror")
    monkeypatch.setitem(augment.AUGMENTATIONS, "published", lambda layout: [ResampleClip(), RandomMirror(layout)])
    with pytest.raises(UserError, match="feeder/augment.py"):
        pretrain.run()
    path = newest(folder)
    state = load(path)
    del state["view"]  # as the published implementation writes it
    torch.save(state, path)
    assert len(figures(pretrain.run())) == 2


@pytest.mark.parametrize(
    "view", [lambda layout: [ResampleClip(32)], lambda layout: [ResampleClip(), torch.nn.BatchNorm1d(3)]]
)
def test_augmentations_that_do_not_work_are_refused_at_the_start(pretrain, monkeypatch, view):
    monkeypatch.setitem(augment.AUGMENTATIONS, "mine", view)
    with pytest.raises(UserError, match="--augment mine"):
        pretrain.run("--augment", "mine")
    assert not pretrain.folder.exists()


def test_a_name_without_a_protocol_is_refused(pretrain, tmp_path):
    with pytest.raises(UserError, match="'mine'"):
        pretrain.run(folder=tmp_path / "mine")
    pretrain.run("--pre-dataset", "demo", "--protocol", "cross_view", folder=tmp_path / "mine")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_where_one_is_asked_for(pretrain):
    with pytest.raises(UserError, match="--device cuda"):
        pretrain.run("--device", "cuda")


@pytest.mark.parametrize("value", [1e30, np.nan])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, pretrain, value):
    packed = tiny_dataset(tmp_path / "data")
    flags = ["--data-root", tmp_path / "data"]
    folder = pretrain.run(*flags, "--epochs", "1")
    state = load(folder / "checkpoint_0000.pth.tar")
    del state["data"]  # or the run would not go on with other recordings
    torch.save(state, folder / "checkpoint_0000.pth.tar")
    good = (folder / "checkpoint_0000.pth.tar").read_bytes()
    joints = np.load(packed.path / "joints.npy")
    joints[1:-1:3] = value
    joints[np.linspace(0, len(joints) - 1, 256, dtype=int)] = 0  # what opening looks at
    np.save(packed.path / "joints.npy", joints)
    with pytest.raises(UserError, match="epoch 1: loss/total"):
        pretrain.run(*flags, "--epochs", "3")
    assert sorted(p.name for p in folder.glob("checkpoint*")) == ["checkpoint_0000.pth.tar"]
    assert (folder / "checkpoint_0000.pth.tar").read_bytes() == good


def test_bf16_trains_and_keeps_float32_weights(pretrain, tmp_path):
    exact = figures(pretrain.run("--hidden-size", "64", folder=tmp_path / "exact" / "demo"))
    folder = pretrain.run("--hidden-size", "64", "--amp", "bf16")
    rough = figures(folder)
    assert rough[0]["loss/total"] == pytest.approx(exact[0]["loss/total"], rel=0.02)
    assert rough[0]["loss/total"] != exact[0]["loss/total"]
    assert all(v.dtype in (torch.float32, torch.int64) for v in load(newest(folder))["state_dict"].values())


def test_the_log_tells_the_losses_rate_speed_and_spread(pretrain):
    folder = pretrain.run()
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    line = lines[0]
    assert line["loss/total"] == pytest.approx(
        5 * (line["loss/intra"] + line["loss/inter"] + line["loss/std"]) + line["loss/cov"], rel=1e-5
    )
    assert line["samples_per_second"] == pytest.approx(12 / line["seconds"])
    board = EventAccumulator(str(folder)).Reload()
    names = {"loss/total", "loss/intra", "loss/inter", "loss/std", "loss/cov", "lr", "std/multi_motion"}
    assert names | {"samples_per_second"} <= set(board.Tags()["scalars"])
    events = board.Scalars("loss/total")
    assert [e.step for e in events] == [0, 1] and events[1].value == pytest.approx(lines[1]["loss/total"])


def test_the_recipe_of_each_protocol():
    for name, batch in (("ntu60_xsub", 512), ("ntu60_xview", 1024), ("ntu120_xsub", 1024), ("ntu120_xsetup_2", 1024)):
        config, [(dataset, protocol)] = program.make_config(program.parse_args(["--checkpoint-path", name]))
        assert f"{dataset.name}_{protocol.name}" in name
        values = [config[key] for key in ("batch_size", "epochs", "milestones", "lr", "wd", "hidden_size", "save_freq")]
        assert values == [batch, 451, (351,), 5e-4, 1e-5, 1024, 50]
    assert pretrain_recipe("mine", "fold1").batch_size == 128 and pretrain_recipe("pku2", "xsub").epochs == 1001


def test_a_preset_is_chosen_by_name_and_flags_win():
    for flags, expected in (
        (["published"], (5e-4, (5, 5, 5, 1))),
        (["tuned"], (1e-3, (25, 25, 25, 1))),
        (["tuned", "--lr", "0.1", "--std-weight", "2"], (0.1, (25, 25, 2, 1))),
    ):
        args = program.parse_args(["--checkpoint-path", "ntu60_xsub", "--recipe", *flags])
        config, _ = program.make_config(args)
        assert (config["lr"], tuple(vars(config["weights"]).values())) == expected
        assert (config["epochs"], config["batch_size"]) == (451, 512)


def test_help_shows_the_recipes_and_the_weights(capsys):
    with pytest.raises(SystemExit):
        program.parse_args(["--help"])
    text = capsys.readouterr().out
    assert re.search(r"pku2_xsub +\| 512 +\| 1001 +\| 801 +\| 0.0005 +\| 1024 +\| 50", text)
    assert re.search(r"of your own +\| 128 +\| 40 ", text) and "--cov-weight" in text


def test_the_accuracy_of_neighbours_is_logged_and_changes_nothing(pretrain, demo_root, tmp_path):
    plain = pretrain.run("--epochs", "3", folder=tmp_path / "plain" / "demo")
    folder = pretrain.run("--epochs", "3", "--knn-every", "2")
    lines = figures(folder)
    assert ["knn/top1" in line for line in lines] == [False, True, True]
    last = lines[-1]["knn/top1"]
    for line in lines:
        line.pop("knn/top1", None)
    assert lines == figures(plain)
    first, second = (load(newest(run)) for run in (plain, folder))
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)
    action_retrieval.main(["--pretrained", str(folder), "--data-root", str(demo_root), "--device", "cpu"])
    assert read_results(folder)[-1]["metrics"]["top1"] == pytest.approx(last)


def test_the_configuration_is_kept(pretrain):
    folder = pretrain.run("--lr", "0.01")
    config = json.loads((folder / "config.json").read_text())
    assert (config["lr"], config["dataset"], config["epochs"]) == (0.01, "demo", 2)
    assert "RandomTemporalCrop(min_ratio=0.1" in config["view"]
    pretrain.run("--lr", "0.01", "--epochs", "1")  # has nothing to train
    assert json.loads((folder / "config.json").read_text()) == config
    assert "_hparams_/session_start_info" in EventAccumulator(str(folder)).Reload().summary_metadata


@pytest.mark.parametrize("flags", [[], ["--pretrain-modalities", "joint"], ["--method", "baseline"]])
def test_loss_and_weights_do_not_depend_on_the_processes(pretrain, demo_root, tmp_path, flags):
    """12 clips in batches of 5, 5 and 2: shares of 2 and 3, and a last batch of which some processes get nothing."""
    flags = ["--lr", "1e-4", *flags]
    one = pretrain.run(*flags)
    for count in (2, 4) if len(flags) == 2 else (2,):
        folder = tmp_path / f"of{count}" / "demo"
        run_together(count, *of(folder, demo_root), "--epochs", "2", *flags)
        for a, b in zip(figures(one), figures(folder), strict=True):
            assert a == pytest.approx(b, rel=2e-3)
        first, second = (load(newest(f))["state_dict"] for f in (one, folder))
        for key, value in first.items():
            if not key.endswith(NOISE):
                torch.testing.assert_close(second[key], value, rtol=1e-3, atol=2e-4, msg=lambda m, k=key: f"{k}: {m}")


def test_only_the_newest_checkpoints_are_kept_where_asked(pretrain):
    folder = pretrain.run("--epochs", "5", "--keep", "2")
    assert sorted(p.name for p in folder.glob("*.pth.tar")) == ["checkpoint_0003.pth.tar", "checkpoint_0004.pth.tar"]


def test_where_the_model_cannot_be_compiled_the_run_says_so_and_goes_on(pretrain, tmp_path, monkeypatch, capsys):
    plain = figures(pretrain.run(folder=tmp_path / "plain" / "demo"))
    forward = UmURL.forward

    def not_one_graph(self, streams):
        torch._dynamo.graph_break()
        return forward(self, streams)

    monkeypatch.setattr(UmURL, "forward", not_one_graph)
    assert figures(pretrain.run("--compile", "on")) == plain
    assert capsys.readouterr().err.count("--compile") == 1


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("encoder", ["transformer", "stgcn"])
def test_compile_changes_nothing_but_speed(pretrain, tmp_path, capsys, encoder):
    from torch._dynamo.utils import counters

    flags = ["--encoder", encoder]
    plain = figures(pretrain.run(*flags, folder=tmp_path / "plain" / "demo"))
    before = counters["stats"]["unique_graphs"]
    compiled = figures(pretrain.run(*flags, "--compile", "on"))  # batches of 5, 5 and 2
    assert "batches of 5 clips" in capsys.readouterr().out
    for a, b in zip(compiled, plain):
        assert a == pytest.approx(b, rel=1e-3)
    assert counters["stats"]["unique_graphs"] == before + 1  # none for the partial batches


@pytest.mark.slow
@needs_compiler
def test_two_processes_compile_the_encoder(pretrain, demo_root, tmp_path):
    plain, folder = figures(pretrain.run("--epochs", "2")), tmp_path / "two" / "demo"
    done = run_python(*launched(2, folder, demo_root, "--epochs", "2", "--compile", "on")[1:])
    assert done.returncode == 0, done.stderr
    assert "compiled in" in done.stdout and "--compile" not in done.stderr
    for a, b in zip(figures(folder), plain):
        assert a == pytest.approx(b, rel=2e-3)


@pytest.mark.parametrize(
    "broken",
    [lambda total: total * math.nan, lambda total: total + (total - total.detach()).sqrt()],  # its gradient is infinite
    ids=["loss", "gradient"],
)
def test_where_only_compiled_training_is_not_finite_the_model_runs_uncompiled(
    pretrain, tmp_path, monkeypatch, capsys, broken
):
    def compiled(function, **options):
        def call(*arguments):
            loss = function(*arguments)
            return loss._replace(total=broken(loss.total))

        return call

    plain = figures(pretrain.run(folder=tmp_path / "plain" / "demo"))
    monkeypatch.setattr(torch, "compile", compiled)
    assert figures(pretrain.run("--compile", "on")) == plain
    assert "--compile" in capsys.readouterr().err


@pytest.mark.parametrize(
    "choice, device, steps, expected",
    [
        ("auto", "cpu", {512: 35178, 155: 451}, set()),
        ("auto", "cuda", {512: 35178, 155: 451}, {512}),
        ("auto", "cuda", {64: 5000, 63: 4000}, {64, 63}),
        ("auto", "cuda", {128: 1999}, set()),
        ("on", "cpu", {5: 4, 2: 2}, {5}),
        ("on", "cuda", {}, set()),
        ("off", "cuda", {512: 35178}, set()),
    ],
)
def test_what_is_compiled(choice, device, steps, expected):
    sizes = list(Counter(steps).elements())
    assert sizes_to_compile(choice, torch.device(device), sizes, 1) == expected


def test_the_precision_is_chosen_by_the_device(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (choose_amp(None, cpu), choose_amp("bf16", cpu)) == ("off", "bf16")
    for has_it, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda h=has_it: h)
        assert choose_amp(None, gpu) == expected
    assert choose_amp("off", gpu) == "off"


@pytest.mark.parametrize(
    "flags, terms, projections",
    [
        (["--objective", "baseline"], {"intra", "std", "cov"}, {"view_1", "view_2"}),
        (["--pretrain-modalities", "motion", "joint"], {"intra", "inter", "std", "cov"}, {"joint", "multi_motion"}),
        (["--pretrain-modalities", "bone_motion"], {"intra", "inter", "std", "cov"}, {"multi_bone_motion"}),
        (["--encoder", "stgcn", "--augment", "mirror"], {"intra", "inter", "std", "cov"}, {"joint", "multi_bone"}),
    ],
)
def test_variants_train_resume_and_are_evaluated(pretrain, demo_root, tmp_path, flags, terms, projections):
    whole = pretrain.run(*flags, "--epochs", "2", folder=tmp_path / "whole" / "demo")
    parts = pretrain.run(*flags, "--epochs", "1")
    assert_equal_runs(pretrain.run(*flags, "--epochs", "2"), whole, 2)
    names = set(figures(parts)[0])
    assert {f"loss/{term}" for term in terms} | {"loss/total"} == {name for name in names if name.startswith("loss/")}
    assert {f"std/{name}" for name in projections} <= names
    state = load(newest(parts))
    torch.manual_seed(0)
    encoder = state["encoder"]["name"]
    start = make_method(8, state["encoder"]["modalities"], method=state["args"]["method"], encoder=encoder).state_dict()
    assert not [name for name, p in start.items() if "weight" in name and torch.equal(p, state["state_dict"][name])]
    common = ["--pretrained", str(parts), "--data-root", str(demo_root), "--device", "cpu"]
    action_retrieval.main(common)
    for modality in {"joint", "bone", "motion"} - {*state["encoder"]["modalities"]}:
        with pytest.raises(UserError, match=f"--modality {modality}"):
            action_retrieval.main([*common, "--modality", modality])


def test_weights_change_what_is_learnt(pretrain, tmp_path):
    folder = pretrain.run("--epochs", "1")
    other = pretrain.run("--epochs", "1", "--cov-weight", "3", folder=tmp_path / "other" / "demo")
    assert figures(folder)[0]["loss/total"] < figures(other)[0]["loss/total"]


def test_the_log_tells_people_what_is_trained_and_how_far_it_is(pretrain):
    folder = pretrain.run("--epochs", "3", "--schedule", "1", "--batch-size", "20")
    text = (folder / "pretrain.log").read_text()
    assert "12 recordings" in text and "hidden size 8, 0.22 M parameters" in text
    assert "3 epochs of 1 step, batch size 20, rate 0.001, a tenth from epoch 1 on" in text
    assert "warning: --batch-size 20" in text
    lines = [line for line in text.splitlines() if " of 3): " in line]
    assert len(lines) == 3 and "epoch 1 (2 of 3): total " in lines[1] and "rate 0.0001, " in lines[1]
    assert lines[2].endswith(" samples/s, 0 s left")


def test_durations_and_progress_read_well():
    durations = ["0 s", "119 s", "2 min", "1 h 00 min", "1 h 02 min"]
    assert [duration(s) for s in (0.4, 119, 125, 3600, 3700)] == durations
    progress = ["0 epochs and 1 step", "1 epoch", "3 epochs and 2 steps"]
    assert [progress_text(*done) for done in ((0, 1), (1, 0), (3, 2))] == progress


def test_an_unreadable_checkpoint_is_named_and_the_one_before_taken(pretrain, tmp_path, capsys):
    whole = pretrain.run("--epochs", "3", folder=tmp_path / "whole" / "demo")
    folder = pretrain.run("--epochs", "2")
    last = folder / "checkpoint_0001.pth.tar"
    last.write_bytes(last.read_bytes()[:-1000])
    pretrain.run("--epochs", "3")
    output = capsys.readouterr()
    assert "checkpoint_0001.pth.tar" in output.err and "checkpoint_0000.pth.tar" in output.out
    assert_equal_runs(folder, whole, 3)


def test_where_no_checkpoint_can_be_read_nothing_starts_again_by_itself(pretrain):
    folder = pretrain.run("--epochs", "2")
    log = (folder / "log.jsonl").read_text()
    for path in checkpoints.in_folder(folder):
        path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="--resume none"):
        pretrain.run("--epochs", "2")
    assert (folder / "log.jsonl").read_text() == log

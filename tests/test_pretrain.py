import json
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tools.training.compiling import sizes_to_compile
from tools.utils.errors import UserError
from tools.utils.precision import choose_amp
from torchvision.transforms import v2

import action_retrieval
import pretrain as program
from feeder.augment import RandomMirror, View
from feeder.clips import ResampleClip
from models import checkpoint_files, loading
from models.umurl import UmURL
from tests.helpers import needs_compiler, run_python, tiny_dataset
from tests.processes import run_together
from tests.runs import assert_equal_runs, figures, launched, of
from tools.training import trainer
from tools.training.report import duration

# Gradients that are zero in exact arithmetic, so that Adam follows their rounding noise: biases that a batch norm
# or a softmax takes away again, and what merely tracks them.
NOISE = ("projector.0.bias", "projector.3.bias", "norm2.bias", "in_proj_bias", "running_mean")


def test_a_resumed_run_equals_an_uninterrupted_one(pretrain, tmp_path):
    flags = ["--schedule", "2", "3", "--save-freq", "2"]
    whole = pretrain.run(*flags, "--epochs", "5", folder=tmp_path / "whole_demo_x" / "demo")
    for stop in (1, 2, 4, 5):
        earlier = [at for at in ("2", "3") if int(at) < stop]
        parts = pretrain.run(
            *flags[:1], *earlier, *flags[3:], "--epochs", str(stop), folder=tmp_path / f"stop{stop}" / "demo"
        )
        assert_equal_runs(pretrain.run(*flags, "--epochs", "5", folder=parts), whole, 5)


def test_the_rate_follows_the_schedule(pretrain):
    folder = pretrain.run("--epochs", "4", "--schedule", "1", "3", "--lr", "0.01")
    assert [line["lr"] for line in figures(folder)] == pytest.approx([0.01, 0.001, 0.001, 0.0001])


def test_checkpoints_are_named_by_the_last_epochs_index(pretrain):
    folder = pretrain.run("--epochs", "6", "--save-freq", "2")
    names = sorted(p.name for p in folder.glob("*.pth.tar"))
    assert names == [f"checkpoint_{i:04d}.pth.tar" for i in (0, 2, 4, 5)]
    state = loading.load(folder / "checkpoint_0004.pth.tar")
    assert state["epoch"] == 5 and (state["dataset"], state["protocol"]) == ("demo", "xsub")
    assert state["args"]["hidden_size"] == 8 and state["versions"]["torch"] == str(torch.__version__)
    assert all(key.startswith("module.") for key in state["state_dict"])
    assert not list(folder.glob("*.partial"))


def test_epoch_zero_is_the_untrained_encoder(pretrain):
    folder = pretrain.run("--epochs", "0", "--seed", "3")
    state = loading.load(checkpoint_files.newest(folder))
    torch.manual_seed(3)
    expected = UmURL(8).state_dict()
    torch.testing.assert_close(loading.weights(state), expected, rtol=0, atol=0)
    assert state["epoch"] == 0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.update(epoch="2"), "its 'epoch' is '2'"),
        (lambda s: s.update(args=None), "its 'args' is None"),
        (lambda s: s.update(recordings=11), "trained on 11 recordings, the data set now has 12"),
        (lambda s: s["optimizer"].update(state={}), "no optimiser state"),
        (lambda s: s.pop("optimizer"), "cannot resume from .*'optimizer'"),
        (lambda s: s["state_dict"]["module.j_projector.0.bias"].fill_(np.inf), "weights that are not finite"),
        (lambda s: s["state_dict"].pop("module.j_projector.0.bias"), "cannot resume from .*j_projector.0.bias"),
    ],
)
def test_a_checkpoint_that_cannot_be_resumed_from_is_refused(pretrain, tmp_path, change, message):
    state = loading.load(checkpoint_files.newest(pretrain.run("--epochs", "1")))
    change(state)
    torch.save(state, tmp_path / "odd.pth.tar")
    with pytest.raises((UserError, checkpoint_files.CheckpointError), match=f"(?s){message}"):
        pretrain.run("--resume", tmp_path / "odd.pth.tar")


@pytest.mark.parametrize("flags", [["--seed", "-1"], ["--lr", "0"], ["--wd", "nan"], ["--epochs", "-1"]])
def test_values_out_of_range_are_refused(pretrain, flags, capsys):
    with pytest.raises(SystemExit):
        pretrain.run(*flags)
    assert (
        f"argument {flags[0]}: {float(flags[1]) if flags[0] in ('--lr', '--wd') else flags[1]} is not"
        in capsys.readouterr().err
    )


def test_a_finished_run_is_left_alone(pretrain, capsys):
    folder = pretrain.run()
    before = {p.name: p.read_bytes() for p in folder.glob("checkpoint*")}
    pretrain.run()
    assert "nothing to train: 2 of 2 epochs done" in capsys.readouterr().out
    assert before == {p.name: p.read_bytes() for p in folder.glob("checkpoint*")}


def test_results_of_the_run_before_are_kept_under_their_date(pretrain, demo_root, capsys):
    folder = pretrain.run("--epochs", "1")
    action_retrieval.main(["--pretrained", str(folder), "--data-root", str(demo_root), "--device", "cpu"])
    pretrain.run("--epochs", "1", "--seed", "1", "--resume", "none")
    (kept,) = folder.glob("action_retrieval*.json")
    assert kept.name != "action_retrieval.json"
    assert f"an earlier action_retrieval, of the run before, is kept as {kept.stem}" in capsys.readouterr().out
    pretrain.run("--epochs", "1", "--seed", "2", "--resume", "none")
    assert [*folder.glob("action_retrieval*.json")] == [kept]
    (folder / "semi_supervised.json").write_text('{"task": "semi_supervised", "fractions": [1]}')
    with pytest.raises(UserError, match="semi_supervised.json is damaged"):
        pretrain.run("--epochs", "1", "--resume", "none")
    assert checkpoint_files.in_folder(folder)


def test_another_schedule_in_mid_run_is_told(pretrain, capsys):
    pretrain.run("--epochs", "1", "--schedule")
    pretrain.run("--epochs", "2", "--schedule")
    assert "warning: --schedule" not in capsys.readouterr().out
    pretrain.run("--epochs", "4", "--schedule", "3")
    assert "after 2 epochs; warning: --schedule was [], now it is [3]" in capsys.readouterr().out


def test_resume_none_starts_anew_and_a_file_can_be_named(pretrain, tmp_path):
    folder = pretrain.run("--epochs", "3", "--seed", "1")
    pretrain.run("--epochs", "2", "--resume", "none")
    assert len(figures(folder)) == 2 and checkpoint_files.newest(folder).name == "checkpoint_0001.pth.tar"
    pretrain.run("--epochs", "3")
    other = tmp_path / "other" / "demo"
    pretrain.run("--epochs", "3", "--resume", folder / "checkpoint_0001.pth.tar", folder=other)
    a, b = (loading.load(f / "checkpoint_0002.pth.tar")["state_dict"] for f in (folder, other))
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--batch-size", "1"], "--batch-size 1: the objective needs at least 2"),
        (["--amp", "fp16"], "--amp fp16 needs a GPU"),
        (["--protocol", "xsetup"], "demo has no protocol 'xsetup'; it has cross_subject"),
        (["--pre-dataset", "ntu60"], "no packed data set at .*ntu60.*ntu_gendata"),
        (["--hidden-size", "7"], "even number"),
        (["--schedule", "1", "5", "--epochs", "5"], "--schedule 5: with --epochs 5 the last epoch is 4; give earlier"),
        (["--resume", "nowhere.pth.tar"], "no checkpoint at nowhere.pth.tar"),
        (["--objective", "baseline", "--inter-weight", "1"], "--inter-weight: the baseline has no term between"),
    ],
)
def test_contradictions_are_refused_at_the_start(pretrain, flags, message):
    with pytest.raises((UserError, checkpoint_files.CheckpointError), match=message):
        pretrain.run(*flags)


def test_another_runs_checkpoint_is_refused(pretrain):
    pretrain.run("--epochs", "1")
    for flags, message in (
        (["--hidden-size", "16"], r"--hidden-size 8 \(now 16\)"),
        (["--seed", "1", "--lr", "0.1"], r"--lr 0.001 \(now 0.1\), --seed 0 \(now 1\)"),
    ):
        with pytest.raises(UserError, match=message):
            pretrain.run(*flags)


def test_other_augmentations_are_another_run(pretrain, monkeypatch):
    folder = pretrain.run("--epochs", "1")
    path = folder / "checkpoint_0000.pth.tar"
    monkeypatch.setattr(trainer, "training_view", lambda: View(ResampleClip(), RandomMirror()))
    with pytest.raises(UserError, match=r"(?s)made with other augmentations:.*Crop\(.*now .*RandomMirror\(p=0.5\)"):
        pretrain.run()
    state = loading.load(path)
    del state["view"]  # as older checkpoints are
    torch.save(state, path)
    assert len(figures(pretrain.run())) == 2


@pytest.mark.parametrize(
    "view, message",
    [
        (lambda: View(RandomMirror(), ResampleClip()), "place ResampleClip"),
        (lambda: View(ResampleClip(32)), "clips have 32 frames behind it, not the 64"),
        (lambda: View(ResampleClip(), v2.RandomErasing()), "RandomErasing.* would not be called"),
    ],
)
def test_augmentations_that_do_not_work_are_refused_at_the_start(pretrain, monkeypatch, view, message):
    monkeypatch.setattr(trainer, "training_view", view)
    with pytest.raises(UserError, match=f"feeder/augment.py: .*{message}"):
        pretrain.run()
    assert not pretrain.folder.exists()


def test_a_name_without_a_protocol_is_refused(pretrain, tmp_path):
    with pytest.raises(UserError, match="'mine' does not begin with a known protocol"):
        pretrain.run(folder=tmp_path / "mine")
    pretrain.run("--pre-dataset", "demo", "--protocol", "cross_view", folder=tmp_path / "mine")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_where_one_is_asked_for(pretrain):
    with pytest.raises(UserError, match="no CUDA GPU"):
        pretrain.run("--device", "cuda")


@pytest.mark.parametrize("value", [1e30, np.nan])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, pretrain, value):
    packed = tiny_dataset(tmp_path / "data")
    flags = ["--data-root", tmp_path / "data"]
    folder = pretrain.run(*flags, "--epochs", "1")
    state = loading.load(folder / "checkpoint_0000.pth.tar")
    del state["data"]  # as an older version wrote it, or the run would not go on with other recordings
    torch.save(state, folder / "checkpoint_0000.pth.tar")
    good = (folder / "checkpoint_0000.pth.tar").read_bytes()
    joints = np.load(packed.path / "joints.npy")
    joints[1:-1:3] = value
    joints[np.linspace(0, len(joints) - 1, 256, dtype=int)] = 0  # what opening looks at
    np.save(packed.path / "joints.npy", joints)
    with pytest.raises(UserError, match="epoch 1: loss/total.*not finite.*the last checkpoint is from before"):
        pretrain.run(*flags, "--epochs", "3")
    assert sorted(p.name for p in folder.glob("checkpoint*")) == ["checkpoint_0000.pth.tar"]
    assert (folder / "checkpoint_0000.pth.tar").read_bytes() == good


def test_bf16_trains_and_keeps_float32_weights(pretrain, tmp_path):
    exact = figures(pretrain.run("--hidden-size", "64", folder=tmp_path / "exact" / "demo"))
    folder = pretrain.run("--hidden-size", "64", "--amp", "bf16")
    rough = figures(folder)
    assert rough[0]["loss/total"] == pytest.approx(exact[0]["loss/total"], rel=0.02)
    assert rough[0]["loss/total"] != exact[0]["loss/total"]
    state = loading.load(checkpoint_files.newest(folder))
    assert all(v.dtype in (torch.float32, torch.int64) for v in state["state_dict"].values())


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
    tags = set(board.Tags()["scalars"])
    assert {
        "loss/total",
        "loss/intra",
        "loss/inter",
        "loss/std",
        "loss/cov",
        "lr",
        "samples_per_second",
        "std/multi_motion",
    } <= tags
    events = board.Scalars("loss/total")
    assert [e.step for e in events] == [0, 1] and events[1].value == pytest.approx(lines[1]["loss/total"])
    assert "saved" in (folder / "pretrain.log").read_text()


def test_the_schedule_and_batch_of_each_protocol(tmp_path):
    for name, batch in (("ntu60_xsub", 512), ("ntu60_xview", 1024), ("ntu120_xsub", 1024), ("ntu120_xsetup_2", 1024)):
        args = program.parse_args(["--checkpoint-path", str(tmp_path / name)])
        [(dataset, protocol)] = program.complete_args(args)
        assert f"{dataset.name}_{protocol.name}" in name
        assert (args.batch_size, args.epochs, args.schedule, args.lr, args.wd) == (batch, 451, [351], 5e-4, 1e-5)
        assert (args.hidden_size, args.save_freq, choose_amp(args.amp, torch.device("cpu"))) == (1024, 50, "off")


def test_a_recipe_is_chosen_by_name_and_flags_win(tmp_path):
    flags = ["--checkpoint-path", str(tmp_path / "ntu60_xsub"), "--recipe"]
    for more, expected in (
        (["published"], (5e-4, 5, 5, 5, 1)),
        (["tuned"], (1e-3, 25, 25, 25, 1)),
        (["tuned", "--lr", "0.1", "--std-weight", "2"], (0.1, 25, 25, 2, 1)),
    ):
        args = program.parse_args(flags + more)
        program.complete_args(args)
        assert (args.lr, args.intra_weight, args.inter_weight, args.std_weight, args.cov_weight) == expected
        assert (args.epochs, args.batch_size) == (451, 512)


def test_help_tells_the_recipes(capsys):
    with pytest.raises(SystemExit):
        program.parse_args(["--help"])
    text = capsys.readouterr().out
    assert re.search(r"pku2_xsub +\| 512 +\| 1001 +\| 801 +\| 0.0005 +\| 1024 +\| 50", text)
    assert re.search(r"of your own +\| 128 +\| 40 ", text) and "weight of the deviation of each" in text


def test_the_accuracy_of_neighbours_is_logged_and_changes_nothing(pretrain, demo_root, tmp_path):
    plain = pretrain.run("--epochs", "3", folder=tmp_path / "plain" / "demo")
    folder = pretrain.run("--epochs", "3", "--knn-every", "2")
    lines = figures(folder)
    assert ["knn/top1" in line for line in lines] == [False, True, True]
    last = lines[-1]["knn/top1"]
    for line in lines:
        line.pop("knn/top1", None)
    assert lines == figures(plain)
    first, second = (loading.load(checkpoint_files.newest(run)) for run in (plain, folder))
    for part in ("state_dict", "optimizer"):
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)
    action_retrieval.main(["--pretrained", str(folder), "--data-root", str(demo_root), "--device", "cpu"])
    assert json.loads((folder / "action_retrieval.json").read_text())["top1"] == pytest.approx(last)
    assert f"1-NN {last:.1f} %" in (folder / "pretrain.log").read_text()


def test_the_configuration_is_kept(pretrain):
    folder = pretrain.run("--lr", "0.01")
    config = json.loads((folder / "config.json").read_text())
    assert (config["lr"], config["dataset"], config["epochs"]) == (0.01, "demo", 2)
    assert "RandomTemporalCrop(min_ratio=0.1" in config["view"]
    pretrain.run("--lr", "0.01", "--epochs", "1")  # has nothing to train
    assert json.loads((folder / "config.json").read_text()) == config
    assert "_hparams_/session_start_info" in EventAccumulator(str(folder)).Reload().summary_metadata


def test_loss_and_weights_do_not_depend_on_the_processes(pretrain, demo_root, tmp_path):
    """12 clips in batches of 5, 5 and 2: shares of 2 and 3, and a last batch of which some processes get nothing."""
    flags = ["--lr", "1e-4", "--epochs", "3"]
    one = pretrain.run(*flags)
    for count in (2, 4):
        folder = tmp_path / f"of{count}" / "demo"
        run_together(count, *of(folder, demo_root), *flags)
        for a, b in zip(figures(one), figures(folder), strict=True):
            assert a == pytest.approx(b, rel=2e-3)
        first, second = (loading.weights(loading.load(checkpoint_files.newest(f))) for f in (one, folder))
        for key, value in first.items():
            if not key.endswith(NOISE):
                torch.testing.assert_close(second[key], value, rtol=1e-3, atol=2e-4, msg=lambda m, k=key: f"{k}: {m}")


def test_only_the_newest_checkpoints_are_kept_where_asked(pretrain):
    folder = pretrain.run("--epochs", "5", "--keep", "2")
    assert sorted(p.name for p in folder.glob("*.pth.tar")) == ["checkpoint_0003.pth.tar", "checkpoint_0004.pth.tar"]
    pretrain.run("--epochs", "7")
    assert len(list(folder.glob("*.pth.tar"))) == 4


def test_where_the_model_cannot_be_compiled_the_run_says_so_and_goes_on(pretrain, tmp_path, monkeypatch, capsys):
    plain = figures(pretrain.run(folder=tmp_path / "plain" / "demo"))
    forward = UmURL.forward

    def not_one_graph(self, streams):
        torch._dynamo.graph_break()
        return forward(self, streams)

    monkeypatch.setattr(UmURL, "forward", not_one_graph)
    assert figures(pretrain.run("--compile", "on")) == plain
    assert capsys.readouterr().err.count("--compile does not work here, so the model runs uncompiled") == 1


@pytest.mark.slow
@needs_compiler
def test_compile_changes_nothing_but_speed(pretrain, tmp_path, capsys):
    from torch._dynamo.utils import counters

    plain = figures(pretrain.run("--epochs", "2", folder=tmp_path / "plain" / "demo"))
    before = counters["stats"]["unique_graphs"]
    compiled = figures(pretrain.run("--epochs", "2", "--compile", "on"))  # batches of 5, 5 and 2
    assert "compiling the model for batches of 5 clips" in capsys.readouterr().out
    for a, b in zip(compiled, plain):
        assert a == pytest.approx(b, rel=1e-3)
    assert counters["stats"]["unique_graphs"] == before + 1  # none for the partial batches


@pytest.mark.slow
@needs_compiler
def test_two_processes_compile_the_encoder(pretrain, demo_root, tmp_path):
    plain, folder = figures(pretrain.run("--epochs", "2")), tmp_path / "two" / "demo"
    done = run_python(*launched(2, folder, demo_root, "--epochs", "2", "--compile", "on")[1:])
    assert done.returncode == 0, done.stderr
    assert "compiled in" in done.stdout and "does not work" not in done.stderr
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
    assert "its loss or gradient is not finite, while that of the uncompiled model is" in capsys.readouterr().err


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
    assert sizes_to_compile("auto", torch.device("cuda"), [512] * 78 + [155], 451) == {512}


@pytest.mark.parametrize(
    "flags, terms, projections",
    [
        (["--objective", "baseline"], {"intra", "std", "cov"}, {"view_1", "view_2"}),
        (["--pretrain-modalities", "motion", "joint"], {"intra", "inter", "std", "cov"}, {"joint", "multi_motion"}),
        (["--pretrain-modalities", "bone"], {"intra", "inter", "std", "cov"}, {"bone", "multi_bone"}),
        (["--objective", "baseline", "--pretrain-modalities", "bone", "joint"], {"intra", "std", "cov"}, {"view_1"}),
    ],
)
def test_ablations_train_resume_and_are_evaluated(pretrain, demo_root, tmp_path, flags, terms, projections):
    whole = pretrain.run(*flags, "--epochs", "3", folder=tmp_path / "whole" / "demo")
    parts = pretrain.run(*flags, "--epochs", "1")
    assert_equal_runs(pretrain.run(*flags, "--epochs", "3"), whole, 3)
    keys = set(figures(parts)[0])
    assert {f"loss/{term}" for term in terms} | {"loss/total"} == {key for key in keys if key.startswith("loss/")}
    assert {f"std/{name}" for name in projections} <= keys
    state = loading.load(checkpoint_files.newest(parts))
    torch.manual_seed(0)
    start = UmURL(8).backbone.state_dict()
    trained = loading.modalities(state)
    for modality in ("joint", "bone", "motion"):
        key = f"{modality[0]}_emb.t_embedding.0.weight"
        moved = not torch.equal(start[key], loading.weights(state)[f"backbone.{key}"])
        assert moved == (modality in trained)
    common = ["--pretrained", str(parts), "--data-root", str(demo_root), "--device", "cpu"]
    action_retrieval.main(common)
    for modality in {"joint", "bone", "motion"} - {*trained}:
        with pytest.raises(UserError, match=f"--modality {modality}: this encoder was pre-trained without {modality}"):
            action_retrieval.main([*common, "--modality", modality])


def test_weights_change_what_is_learnt_and_define_the_run(pretrain, tmp_path):
    folder = pretrain.run("--epochs", "1")
    other = pretrain.run("--epochs", "1", "--cov-weight", "3", folder=tmp_path / "other" / "demo")
    assert figures(folder)[0]["loss/total"] < figures(other)[0]["loss/total"]
    with pytest.raises(UserError, match=r"--cov-weight 1.0 \(now 2.0\), --pretrain-modalities .* \(now \['joint'\]\)"):
        pretrain.run("--cov-weight", "2", "--pretrain-modalities", "joint")


@pytest.mark.parametrize("flags", [["--pretrain-modalities", "joint", "bone"], ["--objective", "baseline"]])
def test_several_processes_train_a_part_of_the_model(pretrain, demo_root, tmp_path, flags):
    one, folder = pretrain.run(*flags), tmp_path / "two" / "demo"
    run_together(2, *of(folder, demo_root), "--epochs", "2", *flags)
    for a, b in zip(figures(one), figures(folder), strict=True):
        assert a == pytest.approx(b, rel=2e-3)


def test_a_folder_is_made_only_for_accepted_arguments(pretrain, tmp_path):
    for flags in (["--hidden-size", "7"], ["--resume", "nowhere.pth.tar"], ["--pre-dataset", "ntu60"]):
        with pytest.raises((UserError, checkpoint_files.CheckpointError)):
            pretrain.run(*flags, folder=tmp_path / "new" / "demo")
    assert not (tmp_path / "new").exists()


def test_the_log_tells_people_what_is_trained_and_how_far_it_is(pretrain):
    folder = pretrain.run("--epochs", "3", "--schedule", "1", "--batch-size", "20")
    text = (folder / "pretrain.log").read_text()
    assert "12 recordings to train on" in text and "hidden size 8, 0.22 M parameters" in text
    assert "3 epochs of 1 step, 20 clips a step, rate 0.001, a tenth from epoch 1 on" in text
    assert "warning: --batch-size 20 is above all 12 recordings" in text
    lines = [line for line in text.splitlines() if " of 3): " in line]
    assert len(lines) == 3 and "epoch 1 (2 of 3): total " in lines[1] and "rate 0.0001, " in lines[1]
    assert lines[2].endswith(" samples/s, 0 s left")
    assert (
        "warning: the rate does not drop at epoch 46"
        in pretrain.run("--resume", "none").joinpath("pretrain.log").read_text()
    )


def test_durations_read_well():
    assert [duration(s) for s in (0.4, 119, 125, 3600, 3700)] == [
        "0 s",
        "119 s",
        "2 min",
        "1 h 00 min",
        "1 h 02 min",
    ]

"""Checkpoints with other contents than a run writes."""

import pytest
import torch
from models.checkpoint_files import CheckpointError
from tools.training.pretraining import progress_text
from tools.utils.errors import UserError

from models import loading


@pytest.fixture
def midway(pretrain):
    """The path and content of a run's last checkpoint."""
    path = pretrain.run("--epochs", "1") / "checkpoint_0000.pth.tar"
    return path, loading.load(path)


def of_first(**values):
    return lambda state: state["optimizer"]["state"][0].update(values)


@pytest.mark.parametrize(
    "change",
    [
        of_first(exp_avg=torch.zeros(1)),
        of_first(exp_avg=torch.tensor(0.0)),
        of_first(step=torch.zeros(2)),
        of_first(exp_avg_sq=None),
        lambda s: s.update(optimizer=None),
        lambda s: s["optimizer"].update(state={"a": {}}),
        lambda s: s.update(epoch=-5),
        lambda s: s.update(epoch=True),
        lambda s: s.update(step=10**6),
        lambda s: s.update(step=1),
        lambda s: s.update(step=1, meter={"sum": None, "clips": 1}),
        lambda s: s["args"].update(lr=torch.ones(2)),
        lambda s: s["args"].update({("a",): 1}),
        lambda s: s["args"].update(pretrain_modalities=[["x"]]),
        lambda s: s["state_dict"].update({3: torch.zeros(1)}),
        lambda s: s["state_dict"].update({k: v.to_sparse() for k, v in s["state_dict"].items() if v.dim() == 2}),
        lambda s: s["state_dict"].update({k: v.int() for k, v in s["state_dict"].items()}),
    ],
)
def test_other_contents_are_refused_in_words(midway, pretrain, change):
    path, state = midway
    change(state)
    torch.save(state, path)
    with pytest.raises((UserError, CheckpointError)):
        pretrain.run("--epochs", "2", "--resume", path)


def test_hyperparameters_are_the_runs_own(midway, pretrain):
    path, state = midway
    pretrain.run("--epochs", "2")
    expected = loading.load(path.with_name("checkpoint_0001.pth.tar"))["state_dict"]
    state["optimizer"]["param_groups"][0].update(weight_decay=5, betas=(0.1, 0.1), amsgrad=True)
    torch.save(state, path)
    pretrain.run("--epochs", "2", "--resume", path)
    found = loading.load(path.with_name("checkpoint_0001.pth.tar"))["state_dict"]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_weights_in_half_precision_and_steps_as_numbers_are_converted(midway, pretrain):
    path, state = midway
    state["state_dict"] = {k: v.half() if v.is_floating_point() else v for k, v in state["state_dict"].items()}
    for moments in state["optimizer"]["state"].values():
        moments["step"] = int(moments["step"])
    torch.save(state, path)
    pretrain.run("--epochs", "2", "--resume", path)
    weights = loading.load(path.with_name("checkpoint_0001.pth.tar"))["state_dict"].values()
    assert {v.dtype for v in weights if v.is_floating_point()} == {torch.float32}


def test_a_run_does_not_go_on_with_other_data(midway, pretrain):
    path, state = midway
    torch.save(state | {"data": "0" * 64}, path)
    with pytest.raises(UserError, match="other recordings"):
        pretrain.run("--epochs", "2")
    del state["data"]  # as an older version wrote it
    torch.save(state, path)
    pretrain.run("--epochs", "2")


def test_a_claimed_width_takes_no_memory(tmp_path, monkeypatch):
    first = torch.zeros(240_000, 150, dtype=torch.int8)
    state = {"state_dict": {"backbone.j_emb.t_embedding.0.weight": first}}
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda t, **_: t if t.is_meta else pytest.fail("allocated"))
    with pytest.raises(CheckpointError, match="another model"):
        loading.load_backbone(state, tmp_path)


def test_progress_in_words():
    assert [progress_text(*done) for done in ((0, 1), (1, 0), (3, 2))] == [
        "0 epochs and 1 step",
        "1 epoch",
        "3 epochs and 2 steps",
    ]

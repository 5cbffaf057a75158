import os
import pickle
import random

import pytest
import torch

from feeder.modalities import PUBLISHED
from models import checkpoints
from models.checkpoints import load, load_encoder_of
from tests.helpers import GOLDEN, make_method
from utils.errors import UserError

OFFICIAL = GOLDEN / "official_h8.pth.tar"


@pytest.fixture
def official():
    """The published checkpoint as it is, keys and all."""
    return torch.load(OFFICIAL, weights_only=True)


def resaved(path, state):
    torch.save(state, path)
    return load(path)


def test_the_published_layout_is_todays_by_other_names(official):
    state = load(OFFICIAL)
    method = make_method(8)
    assert list(state["state_dict"]) == list(method.state_dict())
    for old, new in zip(official["state_dict"].values(), state["state_dict"].values()):
        assert old is new or torch.equal(old, new)
    assert state["encoder"]["name"] == "transformer" and state["encoder"]["hidden_size"] == 8
    assert state["encoder"]["modalities"] == list(PUBLISHED) and state["epoch"] == official["epoch"]


def test_older_checkpoints_of_fewer_modalities_lose_the_parts_that_they_did_not_train(official, tmp_path):
    official["args"] = {"pretrain_modalities": ["motion"], "objective": "baseline"}
    state = resaved(tmp_path / "old.pth.tar", official)
    encoder = load_encoder_of(state, tmp_path)
    assert encoder.modalities == ("motion",) and state["args"]["method"] == "baseline"
    assert not [key for key in encoder.state_dict() if "joint" in key or "fusion" in key]


def test_projectors_and_the_prefix_are_not_needed(official, tmp_path):
    bare = {k.removeprefix("module."): v for k, v in official["state_dict"].items() if "projector" not in k}
    load_encoder_of(resaved(tmp_path / "bare.pth.tar", {"state_dict": bare}), tmp_path)


def test_every_encoder_is_saved_and_loaded_by_its_name(tmp_path):
    for name in ("transformer", "stgcn"):
        method = make_method(8, ("joint", "acceleration"), encoder=name)
        layout = method.encoder.layout.to_json()
        spec = {"name": name, "hidden_size": 8, "modalities": ["joint", "acceleration"], "layout": layout}
        state = resaved(tmp_path / name, {"epoch": 0, "state_dict": method.state_dict(), "encoder": spec})
        encoder = load_encoder_of(state, tmp_path)
        assert type(encoder) is type(method.encoder) and not encoder.training
        torch.testing.assert_close(encoder.state_dict(), method.encoder.state_dict(), rtol=0, atol=0)
        assert checkpoints.weights_hash(encoder) == checkpoints.weights_hash(method.encoder)
    state["encoder"]["name"] = "lstm"
    with pytest.raises(UserError, match="lstm"):
        load_encoder_of(state, tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.unlink(),
        cut,
        flip_a_bit,
        lambda p: p.write_bytes(b""),
        lambda p: p.write_text("hello"),
        lambda p: torch.save([1, 2], p),
        lambda p: torch.save({"state_dict": 3}, p),
        lambda p: torch.save({"state_dict": {}, "encoder": 3}, p),
    ],
)
def test_a_missing_or_damaged_checkpoint_is_an_error_that_names_it(tmp_path, damage):
    path = tmp_path / "c.pth.tar"
    path.write_bytes(OFFICIAL.read_bytes())
    damage(path)
    with pytest.raises(UserError, match="c.pth.tar"):
        load_encoder_of(load(path), path)


@pytest.mark.parametrize(
    "change, name",
    [
        (lambda w: w.pop("module.backbone.ma_encoder.pe.pe"), "positions"),
        (lambda w: w.pop("module.backbone.j_emb.t_embedding.0.weight"), "j_emb"),
        (lambda w: w.update({"module.encoder.extra": torch.zeros(1)}), "extra"),
        (lambda w: w.update({"module.backbone.mm_fusion.t_fusion.0.weight": torch.zeros(4, 4)}), "fusion.temporal"),
        (lambda w: w["module.backbone.mm_fusion.t_fusion.0.weight"].fill_(torch.nan), "fusion.temporal"),
        (lambda w: w.clear(), "j_emb"),
    ],
)
def test_another_model_is_an_error_that_names_the_tensor(official, tmp_path, change, name):
    change(official["state_dict"])
    path = tmp_path / "p.pth.tar"
    with pytest.raises(UserError, match=rf"p\.pth\.tar.*{name}"):
        load_encoder_of(resaved(path, official), path)


class Attack:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_nothing_in_a_checkpoint_is_executed(tmp_path, write):
    path, marker = tmp_path / "evil.pth.tar", tmp_path / "marker"
    write({"state_dict": {}, "epoch": Attack(marker)}, path)
    with pytest.raises(UserError, match="evil.pth.tar"):
        load(path)
    assert not marker.exists()


def test_the_newest_checkpoint_of_a_folder(tmp_path):
    with pytest.raises(UserError, match=tmp_path.name):
        checkpoints.newest(tmp_path)
    names = [checkpoints.name_of(*done) for done in ((0,), (51,), (451,), (51, 7), (1001,))]
    for name in random.sample(names, len(names)):
        (tmp_path / name).touch()
    (tmp_path / "checkpoint_9999.pth.tar.partial").touch()
    assert checkpoints.newest(tmp_path).name == "checkpoint_1000.pth.tar"
    newest_first = ["1000.pth.tar", "0450.pth.tar", "0051_step_000007.pth.tar", "0050.pth.tar", "untrained.pth.tar"]
    assert [path.name.removeprefix("checkpoint_") for path in checkpoints.in_folder(tmp_path)] == newest_first


def test_the_newest_readable_checkpoint_is_taken(tmp_path, caplog):
    assert checkpoints.newest_readable(tmp_path) is None
    checkpoints.write(tmp_path / checkpoints.name_of(1), {"epoch": 1, "state_dict": {}, "encoder": {}})
    (tmp_path / checkpoints.name_of(2)).write_text("half")
    path, state = checkpoints.newest_readable(tmp_path)
    assert state["epoch"] == 1 and checkpoints.name_of(2) in caplog.text
    path.unlink()
    with pytest.raises(UserError, match="--resume none"):
        checkpoints.newest_readable(tmp_path)


def test_saving_removes_what_it_replaces(tmp_path):
    (tmp_path / "checkpoint_0000.pth.tar.12345678.partial").write_bytes(b"half")
    state = {"state_dict": {}, "encoder": {}}
    checkpoints.save(tmp_path, state | {"epoch": 1, "step": 3})
    for epoch in (1, 2, 3):
        path = checkpoints.save(tmp_path, state | {"epoch": epoch}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint_0001.pth.tar", "checkpoint_0002.pth.tar"]
    assert load(path)["epoch"] == 3

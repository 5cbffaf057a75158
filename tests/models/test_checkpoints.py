import os
import pickle
import zipfile

import pytest
import torch
from models.checkpoint_files import CheckpointError
from tools.utils import checkpoints

from models import checkpoint_files, loading
from models.umurl import UmURL
from tests.helpers import GOLDEN

OFFICIAL = GOLDEN / "official_h8.pth.tar"


@pytest.fixture
def state():
    return loading.load(OFFICIAL)


def resaved(path, state):
    torch.save(state, path)
    return loading.load(path)


def test_published_layout_loads_whatever_its_width(tmp_path):
    for hidden_size in (8, 32):
        model = UmURL(hidden_size)
        published = {
            "epoch": 451,
            "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()},
            "optimizer": {},
        }
        backbone = loading.load_backbone(resaved(tmp_path / "p.pth.tar", published), tmp_path)
        assert not backbone.training and backbone.hidden_size == hidden_size
        torch.testing.assert_close(backbone.state_dict(), model.backbone.state_dict(), rtol=0, atol=0)


def test_projectors_and_the_prefix_are_not_needed(state, tmp_path):
    bare = {k.removeprefix("module."): v for k, v in state["state_dict"].items() if "projector" not in k}
    loading.load_backbone(resaved(tmp_path / "bare.pth.tar", {"state_dict": bare}), tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda p: p.unlink(), "no checkpoint at"),
        (cut, "damaged|cannot be read"),
        (flip_a_bit, "damaged|cannot be read"),
        (lambda p: p.write_bytes(b""), "damaged|cannot be read"),
        (lambda p: p.write_text("hello"), "damaged|cannot be read"),
        (lambda p: torch.save([1, 2], p), "it has no state_dict"),
        (lambda p: torch.save({"state_dict": 3}, p), "it has no state_dict"),
    ],
)
def test_missing_or_damaged_is_an_error(tmp_path, damage, message):
    path = tmp_path / "c.pth.tar"
    path.write_bytes(OFFICIAL.read_bytes())
    damage(path)
    with pytest.raises(CheckpointError, match=message):
        loading.load(path)


def test_a_bomb_is_refused_before_memory_is_taken(state, tmp_path):
    key = "module.backbone.j_emb.t_embedding.0.weight"
    endless = {**state["state_dict"], key: torch.zeros(1).expand(10**9, 10**6)}
    with pytest.raises(CheckpointError, match="claims more weights than it holds"):
        resaved(tmp_path / "endless.pth.tar", {"state_dict": endless})
    packed = tmp_path / "packed.pth.tar"
    with zipfile.ZipFile(OFFICIAL) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    with pytest.raises(CheckpointError, match="it is compressed"):
        loading.load(packed)


def without(key):
    return lambda weights: weights.pop(key)


def nested():
    return torch.nested.nested_tensor([torch.zeros(3)])


@pytest.mark.parametrize(
    "change, message",
    [
        (without("module.backbone.ma_encoder.pe.pe"), r'Missing key.*"ma_encoder.pe.pe"'),
        (without("module.backbone.j_emb.t_embedding.0.weight"), "holds no encoder of this model"),
        (lambda w: w.update({"module.backbone.extra": torch.zeros(1)}), 'Unexpected key.*"extra"'),
        (lambda w: w.update({"module.backbone.mm_fusion.t_fusion.0.weight": torch.zeros(4, 4)}), "size mismatch"),
        (lambda w: w["module.backbone.mm_fusion.t_fusion.0.weight"].fill_(torch.nan), "not finite"),
        (lambda w: w.clear(), "holds no encoder"),
        (lambda w: w.update({"module.backbone.j_emb.t_embedding.0.weight": nested()}), "holds no encoder"),
        (lambda w: w.update({"module.backbone.ma_encoder.pe.pe": nested()}), "is no dense tensor"),
    ],
)
def test_another_model_is_an_error(state, change, message):
    change(state["state_dict"])
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        loading.load_backbone(state, OFFICIAL)


class Attack:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_nothing_in_a_checkpoint_is_executed(tmp_path, write):
    path, marker = tmp_path / "evil.pth.tar", tmp_path / "marker"
    write({"state_dict": {}, "epoch": Attack(marker)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint, a damaged one, or holds more than tensors"):
        loading.load(path)
    assert not marker.exists()


def test_the_last_checkpoint_of_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        checkpoint_files.newest(tmp_path)
    for name in (
        "checkpoint_untrained.pth.tar",
        "checkpoint_0450.pth.tar",
        "checkpoint_1000.pth.tar",
        "checkpoint_0050.pth.tar",
    ):
        (tmp_path / name).touch()
    (tmp_path / "checkpoint_9999.pth.tar.partial").touch()
    assert checkpoint_files.newest(tmp_path).name == "checkpoint_1000.pth.tar"
    assert [p.name[11:15] for p in checkpoint_files.in_folder(tmp_path)] == ["1000", "0450", "0050", "untr"]


def test_halves_that_a_killed_run_left_are_removed_with_the_next_save(tmp_path):
    (tmp_path / "checkpoint_0000.pth.tar.12345678.partial").write_bytes(b"half")
    path = checkpoints.save(tmp_path, {"epoch": 2, "state_dict": {}})
    assert list(tmp_path.iterdir()) == [path] and loading.load(path)["epoch"] == 2

import json

import pytest
import torch

from models import flops
from models.umurl import UmURL
from tools import efficiency
from tools.utils.errors import UserError


def test_the_table(tmp_path, capsys):
    efficiency.main(["--hidden-size", "1024", "--json", str(tmp_path / "e.json")])
    rows = {row["what"]: row for row in json.loads((tmp_path / "e.json").read_text())}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| hidden size 1024") and "| 72.45 " in lines[5]
    whole, one = rows["encoder, all modalities fused"], rows["encoder, one modality"]
    assert (whole["parameters"], rows["pre-training"]["parameters"]) == (22_067_200, 72_448_000)
    assert rows["three separate encoders"]["parameters"] == 3 * one["parameters"] > whole["parameters"]
    for row in (whole, one, rows["pre-training"]):
        assert row["one_person"] < row["two_people"] < row["textbook"]


def test_parameters_and_operations_grow_as_the_modules_do():
    """At another size, computed from the state dict and by hand."""
    rows = {row.what: row for row in efficiency.efficiency(32)}
    sizes = {k: v.numel() for k, v in UmURL(32).named_parameters()}
    shared = sum(n for k, n in sizes.items() if "ma_encoder" in k)
    joint = sum(n for k, n in sizes.items() if "j_emb" in k)
    projector = sum(n for k, n in sizes.items() if "j_projector" in k)
    assert rows["encoder, one modality"].parameters == shared + joint
    assert rows["pre-training of three separate streams"].parameters == 3 * (shared + joint + projector)
    # the folded head: per token 4 h² for attention and feed-forward instead of 6 h², embeddings as in the textbook
    tokens = 64 + 50
    folded = 2 * tokens * 2 * 32**2
    assert rows["encoder, one modality"].two_people == flops.stream_flops(32, 1) - folded
    assert rows["encoder, one modality"].textbook == flops.stream_flops(32, 1)


def test_an_odd_width_is_refused():
    with pytest.raises(UserError, match="--hidden-size 33: the position code needs an even number"):
        efficiency.main(["--hidden-size", "33"])
    assert torch.is_grad_enabled()

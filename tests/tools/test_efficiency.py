import json

import pytest
from tools.utils.errors import UserError

from models import flops
from models.umurl import UmURL
from tools import efficiency
from tools.benchmark.efficiency import efficiency as rows_of


def test_the_table(tmp_path, capsys):
    efficiency.main(["--hidden-size", "64", "--json", str(tmp_path / "e.json")])
    rows = {row["what"]: row for row in json.loads((tmp_path / "e.json").read_text())}
    whole, one = rows["encoder, all modalities fused"], rows["encoder, one modality"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| hidden size 64") and f"| {whole['parameters'] / 1e6:.2f} " in lines[3]
    assert rows["three separate encoders"]["parameters"] == 3 * one["parameters"] > whole["parameters"]
    assert 0 < rows["pre-training"]["flop"] < flops.pretraining_flops(64)


def test_parameters_and_operations_grow_as_the_modules_do():
    """At another size, computed from the state dict and by hand."""
    rows = {row.what: row for row in rows_of(32)}
    sizes = {k: v.numel() for k, v in UmURL(32).named_parameters()}
    shared = sum(n for k, n in sizes.items() if "ma_encoder" in k)
    joint = sum(n for k, n in sizes.items() if "j_emb" in k)
    projector = sum(n for k, n in sizes.items() if "j_projector" in k)
    assert rows["pre-training"].parameters == sum(sizes.values())
    assert rows["encoder, one modality"].parameters == shared + joint
    assert rows["pre-training of three separate streams"].parameters == 3 * (shared + joint + projector)
    # One head: two of attention's products a token, of h² multiply-adds each, are folded away.
    folded = 2 * (64 + 50) * 2 * 32**2
    assert rows["encoder, one modality"].flop == flops.stream_flops(32, 1) - folded
    assert rows["three separate encoders"].flop == 3 * rows["encoder, one modality"].flop
    separate = rows["pre-training of three separate streams"]
    assert separate.flop == 3 * (flops.pretraining_flops(32, 1) - 2 * folded)


def test_an_odd_width_is_refused():
    with pytest.raises(UserError, match="--hidden-size 33: the position code needs an even number"):
        efficiency.main(["--hidden-size", "33"])

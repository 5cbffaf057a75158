import json

import pytest

from models import ENCODERS
from tests.helpers import make_method
from tools import efficiency


def test_the_table(tmp_path, capsys):
    efficiency.main(["--hidden-size", "64", "--json", str(tmp_path / "e.json")])
    rows = {row["what"]: row for row in json.loads((tmp_path / "e.json").read_text())}
    whole, one = rows["encoder, all modalities fused"], rows["encoder, one modality"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| transformer, hidden size 64") and f"| {whole['parameters'] / 1e6:.2f} " in lines[3]
    assert rows["three separate encoders"]["parameters"] == 3 * one["parameters"] > whole["parameters"]


def test_parameters_are_those_of_the_modules():
    rows = {row["what"]: row["parameters"] for row in efficiency.efficiency("transformer", 32)}
    sizes = {name: p.numel() for name, p in make_method(32).named_parameters()}
    joint, layers = (sum(n for name, n in sizes.items() if part in name) for part in (".joint.", "encoder.layers"))
    projector = sum(n for name, n in sizes.items() if name.startswith("projectors.joint."))
    assert rows["pre-training"] == sum(sizes.values())
    assert rows["encoder, one modality"] == joint - projector + layers
    assert rows["pre-training of three separate streams"] == 3 * (joint + layers)


def test_operations_of_the_transformer_are_those_on_paper():
    """Two of the layer's six products a token are folded away; so are the embeddings' second Linears in the fusion."""
    hidden = 32
    rows = {row["what"]: row["flop"] for row in efficiency.efficiency("transformer", hidden)}
    expected = {1: 0, 3: 0}
    for tokens, size in ((64, 150), (50, 192)):
        layer = 4 * tokens * hidden**2 + 2 * tokens**2 * hidden  # four Linears; scores and their mixture
        for modalities in expected:
            expected[modalities] += 2 * (modalities * tokens * (size + hidden) * hidden + layer)
    assert rows["encoder, one modality"] == expected[1]
    assert rows["encoder, all modalities fused"] == expected[3]
    projections = 6 * 2 * (2 * (2 * hidden) ** 2 + 2 * hidden * 4096)
    assert rows["pre-training"] == 3 * expected[1] + expected[3] + projections


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_has_a_table(name):
    rows = efficiency.efficiency(name, 16)
    assert len(rows) == 5 and all(row["flop"] > 0 and row["parameters"] > 0 for row in rows)
    assert rows[2]["flop"] == 3 * rows[0]["flop"]

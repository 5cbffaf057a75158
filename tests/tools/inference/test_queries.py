"""tools.predict and tools.search."""

import csv
import shutil

import numpy as np
import pytest
import torch

from data_gen.datasets import DATASETS
from tests.programs import assert_refused, call
from tools.evaluation import knn

CLASSES = DATASETS["demo"].class_names


def lines_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def raw(demo_root):
    return sorted((demo_root / "raw").glob("*.skeleton"))


@pytest.mark.parametrize("modality", ["all", "joint+bone"])
def test_predictions_are_those_of_the_probe(evaluated, demo_root, raw, modality, answers):
    stem = "action_recognition" + f"_{modality}" * (modality != "all")
    more = ["--classifier", evaluated / f"{stem}.pth.tar"] if modality != "all" else []
    probe = {line["name"]: line for line in lines_of(evaluated / f"{stem}_predictions.csv")}
    together = answers("predict", "--pretrained", evaluated, *more, demo_root / "demo")
    assert list(together) == [path.stem for path in raw]
    for name, line in probe.items():
        best = together[name][0]
        assert best["name"] == line["predicted_name"]
        assert best["probability"] == pytest.approx(float(line["probability"]), abs=1e-4)
    for path in raw[::5]:
        (rows,) = answers("predict", "--pretrained", evaluated, *more, path).values()
        assert [row["action"] for row in rows] == [row["action"] for row in together[path.stem]]
        probability = [row["probability"] for row in together[path.stem]]
        np.testing.assert_allclose([row["probability"] for row in rows], probability, atol=1e-5)


def test_predictions_as_a_table_with_names_of_ones_own(evaluated, raw, tmp_path, answers):
    (rows,) = answers("predict", "--pretrained", evaluated, raw[0]).values()
    own = [f"my action {label}" for label in range(12)]
    (tmp_path / "names.txt").write_text("\n".join(own) + "\n")
    for more, names in (((), CLASSES), (("--class-names", tmp_path / "names.txt"), own)):
        ended = call("tools.predict", "--pretrained", evaluated, "--device", "cpu", raw[0], *more)
        lines = ended.out.strip().splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
        assert lines[0] == raw[0].stem and cells[0] == ["", "probability", "action", "name"]
        labels = [int(row["action"][1:]) - 1 for row in rows]
        expected = [[f"{r['probability']:.4f}", r["action"], names[i]] for r, i in zip(rows, labels)]
        assert [row[1:] for row in cells[2:]] == expected
        assert "action_recognition.pth.tar" in ended.err
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    ended = call("tools.predict", "--pretrained", evaluated, "--class-names", tmp_path / "names.txt", raw[0])
    assert_refused(ended, "names.txt")


def centred(features, width=16):
    """Features minus their mean; of several streams, each then of length 1."""
    rest = features - features.mean(0)
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(rest, rest.shape[1] // width, 1)]
    return torch.from_numpy(np.concatenate(parts, 1) if len(parts) > 1 else rest)


@pytest.mark.parametrize("modality", ["bone", "ensemble"])
def test_a_search_gives_the_neighbours_in_the_whole_set(
    modality, published, demo_root, raw, tmp_path, answers, extract
):
    stored = extract(published, demo_root / "demo", modality=modality)
    feature = centred(stored["feature"])
    expected = stored["name"][knn.nearest(feature, feature, 7)].tolist()
    unit = feature / feature.norm(dim=1, keepdim=True)
    cosine = (unit @ unit.T).sort(1, descending=True).values[:, :7]
    flags = ("--pretrained", published, "-k", 7, "--gallery")
    chosen = ("--modality", modality) * (modality == "bone")  # the ensemble is the default
    for gallery in ((demo_root / "demo", *chosen), (tmp_path / "features.npz",)):
        rows = answers("search", *flags, *gallery, demo_root / "demo")
        assert list(rows) == stored["name"].tolist()
        assert [[n["recording"] for n in row] for row in rows.values()] == expected
        assert {n["name"] for row in rows.values() for n in row} == set(CLASSES[:3])
        np.testing.assert_allclose([[n["cosine"] for n in row] for row in rows.values()], cosine, atol=1e-5)
    first = raw[0]
    others = answers("search", *flags, tmp_path / "features.npz", "--leave-out-self", "-k", 4, first)[first.stem]
    assert [n["recording"] for n in others] == [name for name in expected[0] if name != first.stem][:4]


def test_a_folder_is_a_gallery_whose_labels_are_in_the_names(published, demo_root, raw, answers):
    flags = ("--pretrained", published, "--gallery", demo_root / "raw", raw[0])
    rows = answers("search", *flags)[raw[0].stem]
    first = {"cosine": pytest.approx(1), "recording": raw[0].stem, "action": "A001", "name": None}
    assert len(rows) == 5 and rows[0] == first
    assert len(answers("search", *flags, "-k", 99)[raw[0].stem]) == 24


def test_a_gallery_of_one_recording_is_not_centred(published, raw, answers, extract):
    features = extract(published, *raw[:2])["feature"]
    cosine = features[0] @ features[1] / np.prod(np.linalg.norm(features, axis=1))
    flags = ("--pretrained", published, "--gallery", raw[0], "--modality", "all")
    (row,) = answers("search", *flags, raw[1])[raw[1].stem]
    assert row["recording"] == raw[0].stem and row["cosine"] == pytest.approx(cosine, abs=1e-6)
    assert answers("search", *flags, "--leave-out-self", raw[0])[raw[0].stem] == []


def test_a_gallery_that_an_earlier_version_wrote_is_read(published, demo_root, raw, tmp_path, answers, extract):
    path = tmp_path / "features.npz"
    stored = extract(published, demo_root / "demo")
    expected = answers("search", "--pretrained", published, "--gallery", path, raw[0])
    # It named the modalities, had no entry `data`, and hashed the published names of the weights.
    assert str(stored.pop("data")).startswith("demo ") and str(stored["modality"]) == "all"
    assert stored["encoder"] == "e3b6d745d584f1c7708b5dec2ee2e4789fe1e3047a009346b3870d70dee54e15"
    np.savez(path, **stored | {"modality": "joint+bone+motion"})
    assert answers("search", "--pretrained", published, "--gallery", path, raw[0]) == expected


def change_weights(folder):
    path = folder / "checkpoint_0450.pth.tar"
    state = torch.load(path, weights_only=True)
    state["state_dict"]["module.backbone.mm_fusion.t_fusion.0.weight"].mul_(2)
    torch.save(state, path)


def test_a_gallery_of_another_encoder_or_modality_is_refused(published, demo_root, raw, tmp_path, extract):
    path = tmp_path / "features.npz"
    stored = extract(published, demo_root / "demo", modality="bone")
    flags = ("--pretrained", published, "--device", "cpu", "--gallery", path, raw[0])
    assert_refused(call("tools.search", *flags, "--modality", "joint"), f"{path}: ")
    for changed in ({"feature": stored["feature"][:3]}, {"feature": stored["feature"] * np.nan}, {"modality": "depth"}):
        np.savez(path, **stored | changed)
        assert_refused(call("tools.search", *flags), f"{path}: ")
    np.savez(path, **stored)
    change_weights(published)
    assert_refused(call("tools.search", *flags), "checkpoint_0450")
    path.write_bytes(b"hello")
    assert_refused(call("tools.search", *flags), f"{path}: ")


def test_a_classifier_that_does_not_fit_is_refused(evaluated, raw, tmp_path):
    folder = tmp_path / "demo_published"
    shutil.copytree(evaluated, folder)
    flags = ("--pretrained", folder, "--device", "cpu", raw[0])
    path = folder / "action_recognition.pth.tar"
    good = torch.load(path, weights_only=True)
    for changed in ({"weight": good["weight"] * torch.nan}, {"modality": "joint+depth"}, {"classes": ["a", "b"]}):
        torch.save(good | changed, path)
        assert_refused(call("tools.predict", *flags), f"{path}: ")
    other = folder / "checkpoint_0450.pth.tar"
    assert_refused(call("tools.predict", *flags, "--classifier", other), f"{other}: ")
    torch.save(good, path)
    change_weights(folder)
    assert_refused(call("tools.predict", *flags), f"{path}: ")
    path.unlink()
    assert_refused(call("tools.predict", *flags), f"{path}: ")


def test_the_others_are_answered_before_a_broken_one_is_an_error(evaluated, raw, tmp_path):
    (tmp_path / "broken.skeleton").write_bytes(b"1\n")
    flags = ("--pretrained", evaluated, "--device", "cpu")
    ended = call("tools.predict", *flags, tmp_path / "broken.skeleton", raw[0])
    assert_refused(ended, f"{tmp_path / 'broken.skeleton'}: ")
    assert raw[0].stem in ended.out
    assert call("tools.predict", *flags).status == 2

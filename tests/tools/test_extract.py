import re
import zipfile

import numpy as np
import pytest
import torch

from data_gen.datasets import DATASETS, ROOT
from data_gen.packed.reader import PackedDataset
from models import FrozenEncoder, load_encoder
from models.frozen import Representation
from tests.helpers import moving_body, skeleton_text
from tests.programs import assert_refused, call


def test_archives_and_files_give_the_features_of_their_data_set(published, demo_root, tmp_path, extract):
    paths = sorted((demo_root / "raw").glob("*.skeleton"))
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in paths[3:]:
            archive.write(path, f"nested/{path.name}")
    packed = extract(published, demo_root / "demo")
    stored = extract(published, tmp_path / "some.zip", *paths[:3], out=tmp_path / "b.npz")
    np.testing.assert_allclose(stored["feature"], packed["feature"], atol=1e-5)
    assert stored["name"].tolist() == packed["name"].tolist() and stored["label"].tolist() == packed["label"].tolist()
    assert stored["classes"].tolist() == [] and stored["classes"].dtype.kind == "U" and stored["data"] == ""
    dataset = PackedDataset(demo_root / "demo")
    assert packed["feature"].dtype == np.float32 and packed["modality"] == "all"
    assert packed["name"].tolist() == dataset.names.tolist() and packed["label"].tolist() == dataset.label.tolist()
    assert packed["classes"].tolist() == list(DATASETS["demo"].class_names)
    assert packed["encoder"] == load_encoder(published, device="cpu").weights_hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.npz", "demo_published", "features.npz", "some.zip"]


def test_bad_recordings_are_listed_and_nothing_is_written_unless_left_out(published, tmp_path):
    folder, out = tmp_path / "mine", tmp_path / "out.npz"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "c", "S001C001P001R001A007"):
        (folder / f"{name}.skeleton").write_bytes(skeleton_text(moving_body(rng, 50)))
    (folder / "b.skeleton").write_bytes(b"1\n")
    (folder / "d.skeleton").write_bytes(b"x\n")
    flags = ("--pretrained", published, "--device", "cpu", "--out", out, "--data")
    ended = call("tools.extract", *flags, folder)
    assert_refused(ended, f"{folder / 'b.skeleton'}: ")
    assert f"{folder / 'd.skeleton'}: " in ended.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo_published", "mine"]
    ended = call("tools.extract", *flags, folder, "--skip-bad")
    assert ended.status == 0 and "b.skeleton" in ended.err and "d.skeleton" in ended.err
    with np.load(out) as stored:
        assert stored["name"].tolist() == ["S001C001P001R001A007", "a", "c"]
        assert stored["label"].tolist() == [6, -1, -1]
    assert_refused(call("tools.extract", *flags, folder / "b.skeleton", "--skip-bad"), "b.skeleton: ")


@pytest.mark.parametrize("modality", ["all", "motion+joint"])
def test_the_library_gives_the_features_that_extract_writes(published, demo_root, modality, extract):
    packed = extract(published, demo_root / "demo", modality=modality)
    encoder = load_encoder(published, modality, device="cpu")
    dataset = PackedDataset(demo_root / "demo")
    feature = encoder([dataset.recording(i) for i in range(len(dataset))])
    assert feature.shape == (24, encoder.feature_size) and not feature.requires_grad
    np.testing.assert_allclose(feature, packed["feature"], atol=1e-5)
    alone = encoder(torch.tensor(dataset.recording(3))[None])  # of its own length
    np.testing.assert_allclose(alone, packed["feature"][3:4], atol=1e-5)
    assert encoder([]).shape == (0, 16)


def test_the_ensemble_of_the_library_is_that_of_the_evaluation(published, demo_root, extract):
    written = extract(published, demo_root / "demo", modality="ensemble")
    streams = FrozenEncoder.open(published, torch.device("cpu"), "ensemble").streams
    wanted = Representation("ensemble", streams)(torch.from_numpy(written["feature"]))
    encoder, packed = load_encoder(published, "ensemble", device="cpu"), PackedDataset(demo_root / "demo")
    feature = encoder([packed.recording(i) for i in range(len(packed))])
    assert feature.shape == (24, encoder.feature_size) == (24, 4 * 16)
    np.testing.assert_allclose(feature, wanted, atol=1e-4)
    np.testing.assert_allclose(feature.unflatten(1, (4, 16)).norm(dim=2), 4.0, rtol=1e-5)
    assert encoder([]).shape == (0, 64)


def test_the_readme_shows_how_to_use_the_library(published, demo_root):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "load_encoder" in block]
    for text, instead in (("data/ntu60", demo_root / "demo"), ("checkpoints/ntu60_xsub", published), ("100)", "20)")):
        assert text in code
        code = code.replace(text, str(instead))
    names: dict = {}
    exec(code, names)
    assert names["feature"].shape == (20, 16) and names["feature"].dtype == torch.float32


def test_the_library_refuses_wrong_arguments(published):
    with pytest.raises(ValueError, match="'joints'"):
        load_encoder(published, "joints")
    encoder = load_encoder(published, device="cpu")
    for clips in (torch.zeros(2, 64, 25, 3), [np.zeros((0, 2, 25, 3))], [np.zeros((9, 25, 3))]):
        with pytest.raises(ValueError, match=re.escape("(B, T, 2, 25, 3)")):
            encoder(clips)

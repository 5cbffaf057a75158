import re
import zipfile

import numpy as np
import pytest
import torch
from tools.evaluation.features import FrozenEncoder
from tools.evaluation.representation import Representation
from tools.utils.errors import UserError

from data_gen.class_names import class_names
from data_gen.datasets import ROOT
from data_gen.packed.reader import PackedDataset
from data_gen.raw.conversion import BadRecordings
from models import checkpoint_files, load_encoder, loading
from tests.helpers import moving_body, skeleton_text
from tools import extract
from tools.inference import recordings
from tools.inference.recordings import RecordingsInput


def extracted(published, out, *data, more=()):
    extract.main(
        ["--pretrained", str(published), "--device", "cpu", "--out", str(out), *more, "--data", *map(str, data)]
    )
    with np.load(out) as file:
        return dict(file)


def test_folders_archives_and_files_give_the_features_of_their_data_set(published, demo_root, tmp_path, monkeypatch):
    paths = sorted((demo_root / "raw").glob("*.skeleton"))
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in paths[3:]:
            archive.write(path, f"nested/{path.name}")
    packed = extracted(published, tmp_path / "a.npz", demo_root / "demo")
    monkeypatch.setattr(recordings, "BATCH_SIZE", 7)  # several parts
    for data in ([demo_root / "raw"], [tmp_path / "some.zip", *paths[:3]]):
        found = extracted(published, tmp_path / "b.npz", *data)
        np.testing.assert_allclose(found["feature"], packed["feature"], atol=1e-5)
        assert found["name"].tolist() == packed["name"].tolist() and found["label"].tolist() == packed["label"].tolist()
    assert packed["feature"].dtype == np.float32 and packed["modality"] == "joint+bone+motion"
    assert packed["classes"].tolist() == list(class_names("demo")) and found["classes"].tolist() == []
    backbone = loading.load_backbone(loading.load(checkpoint_files.newest(published)), published)
    assert found["encoder"] == loading.fingerprint(backbone)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz", "demo_published", "some.zip"]


def test_bad_recordings_are_listed_and_nothing_is_written_unless_left_out(published, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "c", "S001C001P001R001A007"):
        (folder / f"{name}.skeleton").write_bytes(skeleton_text(moving_body(rng, 50)))
    (folder / "b.skeleton").write_bytes(b"1\n")
    (folder / "d.skeleton").write_bytes(b"x\n")
    out = tmp_path / "out.npz"
    with pytest.raises(BadRecordings, match=r"(?s)2 recordings .*b\.skeleton: .*d\.skeleton: .*--skip-bad"):
        extracted(published, out, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo_published", "mine"]
    found = extracted(published, out, folder, more=["--skip-bad"])
    assert found["name"].tolist() == ["S001C001P001R001A007", "a", "c"] and found["label"].tolist() == [6, -1, -1]
    assert "left out" in (err := capsys.readouterr().err) and "b.skeleton" in err and "d.skeleton" in err
    with pytest.raises(UserError, match="no recording could be read"):
        extracted(published, tmp_path / "none.npz", folder / "b.skeleton", more=["--skip-bad"])


def test_memory_does_not_grow_with_the_recordings(published, demo_root, monkeypatch):
    monkeypatch.setattr(recordings, "BATCH_SIZE", 2)
    sizes = []
    source = recordings.ClipDataset
    monkeypatch.setattr(recordings, "ClipDataset", lambda *a, **k: sizes.append(len(a[1])) or source(*a, **k))
    encoder = FrozenEncoder.open(published, torch.device("cpu"))
    found = list(RecordingsInput([demo_root / "raw"], encoder).features((("joint",),)))
    assert sizes == [2] * 12 and [len(batch.names) for batch in found] == [2] * 12


def test_all_places_that_are_missing_are_named(tmp_path, published):
    places = [tmp_path / "a.npy", tmp_path, tmp_path / "b.npy"]
    with pytest.raises(OSError, match=r"no such file, .*a.npy, [^,]*b.npy$"):
        RecordingsInput(places, FrozenEncoder.open(published, torch.device("cpu")))


@pytest.mark.parametrize(
    "place, message",
    [
        ("mine.txt", "mine.txt is not a zip archive.*what is read: a packed data set, or folders"),
        ("nowhere", "no such file, folder or archive: .*nowhere$"),
        ("empty", "no recording .*.csv, .npy, .skeleton. in .*empty"),
    ],
)
def test_other_places_are_refused(place, message, published, tmp_path):
    (tmp_path / "mine.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises((UserError, OSError), match=message):
        RecordingsInput([tmp_path / place], FrozenEncoder.open(published, torch.device("cpu")))


def test_a_packed_data_set_comes_by_itself(published, demo_root):
    with pytest.raises(UserError, match="demo is a packed data set: give it by itself"):
        RecordingsInput([demo_root / "demo", demo_root / "raw"], FrozenEncoder.open(published, torch.device("cpu")))


@pytest.mark.parametrize("modality", ["all", "bone", "motion+joint"])
def test_the_library_gives_the_features_that_extract_writes(published, demo_root, tmp_path, modality):
    packed = extracted(published, tmp_path / "a.npz", demo_root / "demo", more=["--modality", modality])
    encoder = load_encoder(published, modality, device="cpu")
    dataset = PackedDataset(demo_root / "demo")
    feature = encoder([dataset.recording(i) for i in range(len(dataset))])
    assert feature.shape == (24, encoder.feature_size) and not feature.requires_grad
    np.testing.assert_allclose(feature, packed["feature"], atol=1e-5)
    alone = encoder(torch.tensor(dataset.recording(3))[None])  # of its own length
    np.testing.assert_allclose(alone, packed["feature"][3:4], atol=1e-5)
    assert encoder([]).shape == (0, 16)


def test_the_ensemble_of_the_library_is_that_of_the_evaluation(published, demo_root, tmp_path):
    written = extracted(published, tmp_path / "a.npz", demo_root / "demo", more=["--modality", "ensemble"])
    streams = FrozenEncoder.open(published, torch.device("cpu")).streams("ensemble")
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


def test_the_library_says_what_is_wrong(published, tmp_path):
    with pytest.raises(checkpoint_files.CheckpointError, match="no checkpoint at"):
        load_encoder(tmp_path / "nowhere.pth.tar")
    with pytest.raises(ValueError, match="'joints' is no modality"):
        load_encoder(published, "joints")
    encoder = load_encoder(published, device="cpu")
    for clips in (torch.zeros(2, 64, 25, 3), [np.zeros((0, 2, 25, 3))], [np.zeros((9, 25, 3))]):
        with pytest.raises(ValueError, match=r"clips are \((B, )?T, 2, 25, 3\)"):
            encoder(clips)

"""Recordings of any kind, skeleton and number of people, given to an encoder."""

import zipfile

import numpy as np
import pytest
import torch

from data_gen.packed.reader import PackedDataset
from data_gen.raw.normalise import normalise
from data_gen.skeletons import KINECT_V2, SKELETONS, map_joints
from models import FrozenEncoder, checkpoints, load_encoder
from tests.data_gen.formats.samples import bring, export
from tests.helpers import own_dataset
from tests.programs import assert_refused, call
from tools.inference import recordings as module
from tools.inference.recordings import Recordings
from utils.errors import UserError

V1 = SKELETONS["kinect_v1"]
CPU = ("--device", "cpu")


@pytest.fixture
def encoder(published):
    return FrozenEncoder.open(published, torch.device("cpu"))


@pytest.fixture
def clips() -> dict[str, np.ndarray]:
    """Raw recordings of one person with the joints of Kinect v1, (T, V, C)."""
    rng = np.random.default_rng(2)
    walk = {name: rng.normal(size=(30 + i, 20, 3)).cumsum(0) * 0.02 for i, name in enumerate("abcdef")}
    return {name: steps + 0.4 * rng.normal(size=(20, 3)) + 2 for name, steps in walk.items()}


@pytest.fixture
def folder(tmp_path, clips):
    """A folder of them, half of them .csv and half .npy, with a table of three classes."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, (name, clip) in enumerate(clips.items()):
        if i % 2:
            np.savetxt(folder / f"{name}.csv", clip.reshape(len(clip), -1), delimiter=",", fmt="%.17g")
        else:
            np.save(folder / f"{name}.npy", clip)
    table = ["name,label,subject", *(f"{name},{'xyz'[i % 3]},p{i // 3}" for i, name in enumerate(clips))]
    (folder / "recordings.csv").write_text("\n".join(table))
    return folder


def features(encoder, *places, skeleton=None):
    """Name → feature, and name → label, of all that can be read; the input itself."""
    recordings = Recordings(places, encoder, skeleton)
    batches = list(recordings.features())
    names = [name for batch in batches for name in batch.names]
    labels = [label for batch in batches for label in batch.labels]
    rows = torch.cat([batch.features for batch in batches]) if batches else torch.empty(0, 16)
    return dict(zip(names, rows)), dict(zip(names, labels)), recordings


def expected(encoder, clip):
    return encoder([normalise(map_joints(clip[:, None], V1, KINECT_V2))])[0]


def assert_near(features, encoder, clips, tolerance=1e-5):
    assert list(features) == list(clips)
    for name, clip in clips.items():
        torch.testing.assert_close(features[name], expected(encoder, clip), atol=tolerance, rtol=0)


def test_any_kind_of_file_is_mapped_normalised_and_filled_up(encoder, folder, clips, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"deep/{path.name}")
    (tmp_path / "bare").mkdir()
    for path in folder.glob("[a-f].*"):
        (tmp_path / "bare" / path.name.replace(".csv", ".CSV")).write_bytes(path.read_bytes())
    for place, is_labelled in ((folder, True), (tmp_path / "bare", False), (tmp_path / "some.zip", False)):
        computed, labels, recordings = features(encoder, place, skeleton="kinect_v1")
        assert_near(computed, encoder, clips)
        assert not recordings.unreadable and recordings.data == ""
        assert list(labels.values()) == ([0, 1, 2, 0, 1, 2] if is_labelled else [-1] * 6)
        assert recordings.class_names == (["x", "y", "z"] if is_labelled else [])
        notes = capsys.readouterr().err.splitlines()
        assert len(notes) == (4 if place.suffix else 3) and all(note.startswith("note: ") for note in notes)
        assert all("(6 recordings)" in note for note in notes[-3:])
        for word, note in zip(("kinect_v2", "centred", "2 people"), notes[-3:]):
            assert word in note


def test_a_packed_data_set_gives_the_same_and_so_does_its_export(encoder, folder, clips, tmp_path, capsys):
    bring("folder", folder, "--name", "own", "--skeleton", "kinect_v1", "--out", tmp_path / "packed")
    capsys.readouterr()
    computed, labels, recordings = features(encoder, tmp_path / "packed")
    assert_near(computed, encoder, clips, 1e-4)  # aligned before the joints are mapped, which changes nothing
    assert list(labels.values()) == [0, 1, 2, 0, 1, 2] and recordings.class_names == ["x", "y", "z"]
    assert recordings.data.startswith("own ")
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith("note: ") and "kinect_v1" in note and "kinect_v2" in note
    export("folder", "--data", tmp_path / "packed", "--out", tmp_path / "again")  # its skeleton lies beside them
    again, _, _ = features(encoder, tmp_path / "again")
    torch.testing.assert_close(again, computed, atol=1e-6, rtol=0)
    alone, _, _ = features(encoder, tmp_path / "again" / "c.npy")
    torch.testing.assert_close(alone["c"], computed["c"], atol=1e-6, rtol=0)


def test_doubtful_recordings_are_warned_of(encoder, clips, tmp_path, capsys):
    doubtful = tmp_path / "doubtful"
    doubtful.mkdir()
    np.save(doubtful / "millimetres.npy", 1000 * clips["a"])
    np.save(doubtful / "nobody.npy", np.zeros((5, 20, 3)))
    np.save(doubtful / "sound.npy", clips["b"])
    computed, _, _ = features(encoder, doubtful, skeleton="kinect_v1")
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(computed) == 3 and sorted(line.split(": ")[-1] for line in warnings) == ["millimetres", "nobody"]
    bring("folder", doubtful, "--name", "own", "--skeleton", "kinect_v1", "--out", tmp_path / "packed")
    capsys.readouterr()
    _, labels, recordings = features(encoder, tmp_path / "packed")
    assert set(labels.values()) == {-1} and not recordings.class_names  # it has no labels
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warning.endswith(": nobody")
    with pytest.warns(UserWarning, match="millimetres"):
        encoder.prepare(1000 * clips["a"], "kinect_v1")


def test_unreadable_recordings_are_listed_with_reasons(encoder, folder, tmp_path):
    computed, _, recordings = features(encoder, folder)
    assert not computed and len(recordings.unreadable) == 6
    assert all("kinect_v1" in reason for reason in recordings.unreadable.values())
    np.save(tmp_path / "flat.npy", np.zeros((5, 25, 2)))
    np.save(tmp_path / "gap.npy", np.full((5, 25, 3), np.nan))
    _, _, recordings = features(encoder, tmp_path / "flat.npy", tmp_path / "gap.npy")
    flat, gap = recordings.unreadable.values()
    assert "2 coordinates" in flat and "5 of 5 frames" in gap
    with pytest.raises(UserError) as error:
        recordings.check()
    assert str(error.value).splitlines() == [f"{tmp_path / 'flat.npy'}: {flat}", f"{tmp_path / 'gap.npy'}: {gap}"]


def test_other_places_are_refused_by_name(encoder, demo_root, tmp_path):
    for places in ([tmp_path / "nowhere"], [tmp_path], [demo_root / "demo", demo_root / "raw"]):
        with pytest.raises(UserError, match=str(places[0])):
            Recordings(places, encoder)
    with pytest.raises(UserError, match="who"):
        Recordings([demo_root / "raw"], encoder, "who")


def test_features_come_in_batches(encoder, demo_root, monkeypatch):
    together, _, _ = features(encoder, demo_root / "demo")
    monkeypatch.setattr(module, "BATCH_SIZE", 7)
    for place in (demo_root / "demo", demo_root / "raw"):
        batches = list(Recordings([place], encoder).features())
        assert [len(batch.names) for batch in batches] == [7, 7, 7, 3]
        rows = torch.cat([batch.features for batch in batches])
        torch.testing.assert_close(rows, torch.stack([*together.values()]), atol=1e-5, rtol=0)


def test_the_published_checkpoint_is_evaluated_on_kinect_v1_and_answers_for_its_files(
    published, encoder, folder, clips, tmp_path, answers, extract
):
    rule = ("--split", "s=subject:p0")
    bring("folder", folder, "--name", "own", "--skeleton", "kinect_v1", *rule, "--out", tmp_path / "data" / "own")
    flags = ("--pretrained", published, *CPU)
    data = ("--data-root", tmp_path / "data", "--finetune-dataset", "own", "--protocol", "s")
    ended = call("action_recognition", *flags, *data, "--epochs", 5, "--schedule")
    assert ended.status == 0 and "kinect_v1" in ended.out
    raw = ("--skeleton", "kinect_v1", folder)
    rows = answers("predict", "--pretrained", published, *raw)
    assert list(rows) == list(clips) and {row["name"] for row in rows["a"]} == {"x", "y", "z"}
    found = answers("search", "--pretrained", published, "--gallery", folder, *raw)
    assert [rows[0]["recording"] for rows in found.values()] == list(clips) and found["b"][0]["name"] == "y"
    packed = tmp_path / "data" / "own"
    stored = extract(published, packed)
    np.testing.assert_allclose(stored["feature"][1], expected(encoder, clips["b"]), atol=1e-4)
    found = answers("search", "--pretrained", published, "--gallery", tmp_path / "features.npz", "-k", 1, packed)
    assert {name: rows[0]["recording"] for name, rows in found.items()} == dict(zip(clips, clips))


@pytest.fixture
def pretrained_on(pretrain, tmp_path):
    """Pre-train on a packed data set of one's own; return the run's folder."""

    def train(packed):
        flags = ("--checkpoint-path", tmp_path / "mine_fold1", "--data-root", packed.path, "--batch-size", 6)
        pretrain.run(*flags, "--epochs", 1, "--pre-dataset", "mine", "--protocol", "fold1")
        return tmp_path / "mine_fold1"

    return train


def test_an_encoder_of_one_person_takes_the_first_of_two(pretrained_on, demo_root, tmp_path):
    run = pretrained_on(own_dataset(tmp_path / "mine", "kinect_v2", 1, 3))
    path = checkpoints.newest(run)
    state = checkpoints.load(path)
    assert state["centred"] is False  # as simulated here
    torch.save(state | {"centred": True}, path)
    demo, encoder = PackedDataset(demo_root / "demo"), FrozenEncoder.open(run, torch.device("cpu"))
    computed, labels, _ = features(encoder, demo.path)
    wanted = encoder([demo.recording(i)[:, :1] for i in range(24)])
    torch.testing.assert_close(torch.stack(list(computed.values())), wanted, atol=1e-5, rtol=0)
    assert list(labels.values()) == demo.label.tolist()


def test_an_encoder_of_two_coordinates_refuses_files_of_three(pretrained_on, demo_root, tmp_path):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    run = pretrained_on(packed)
    computed, _, _ = features(FrozenEncoder.open(run, torch.device("cpu")), packed.path)
    assert list(computed) == packed.names.tolist()
    path = min((demo_root / "raw").glob("*.skeleton"))
    assert_refused(
        call("tools.extract", "--pretrained", run, *CPU, "--data", path, "--out", tmp_path / "f.npz"), path.name
    )


def test_the_library_prepares_a_recording_and_refuses_raw_ones(published, clips):
    encoder = load_encoder(published, device="cpu")
    clip = clips["b"]
    wanted = normalise(map_joints(clip[:, None], V1, KINECT_V2))
    for raw in (clip, clip[:, None], torch.tensor(clip)):
        np.testing.assert_array_equal(encoder.prepare(raw, "kinect_v1"), wanted)
    np.testing.assert_array_equal(encoder.prepare(wanted), wanted)  # nothing is done twice
    crowd = np.random.default_rng(0).normal(2, 0.4, (9, 4, 25, 3))
    np.testing.assert_array_equal(encoder.prepare(crowd), normalise(crowd))
    for raw in ([crowd[:, :2]], torch.tensor(crowd[None, :, :2])):
        with pytest.raises(ValueError, match="prepare"):
            encoder(raw)
    nobody = np.zeros((1, 9, 2, 25, 3), np.float32)
    assert encoder(torch.from_numpy(nobody)).isfinite().all()
    with pytest.raises(UserError, match="kinect_v1"):
        encoder.prepare(clip)
    path = published / "checkpoint_0450.pth.tar"
    torch.save(torch.load(path, weights_only=True) | {"centred": False}, path)
    as_recorded = load_encoder(published, device="cpu")
    np.testing.assert_array_equal(as_recorded.prepare(crowd[:, :2]), crowd[:, :2].astype(np.float32))
    assert as_recorded([crowd[:, :2]]).isfinite().all()

"""Recordings of any kind, skeleton and number of people, given to an encoder."""

import json
import zipfile

import numpy as np
import pytest
import torch
from tools.evaluation.features import FrozenEncoder
from tools.utils.errors import UserError

import action_recognition
import action_retrieval
from data_gen.packed.reader import DataSetError, PackedDataset
from data_gen.raw.normalise import normalise
from data_gen.skeletons import KINECT_V2, SKELETONS, map_joints
from models import checkpoint_files, load_encoder, loading
from tests.data_gen.formats.samples import bring, export
from tests.helpers import own_dataset
from tools import extract, predict, search
from tools.inference.recordings import RecordingsInput

V1 = SKELETONS["kinect_v1"]
ALL = (("joint", "bone", "motion"),)
NOTES = ["joints are mapped onto kinect_v2", "raw people are centred and aligned", "there are fewer than 2 people"]


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
    recordings = RecordingsInput(list(places), encoder, skeleton)
    batches = list(recordings.features(ALL))
    names = [name for batch in batches for name in batch.names]
    labels = [label for batch in batches for label in batch.labels.tolist()]
    rows = torch.cat([batch.feature for batch in batches]) if batches else torch.empty(0, 16)
    return dict(zip(names, rows)), dict(zip(names, labels)), recordings


def expected(encoder, clip):
    people = normalise(map_joints(clip[:, None], V1, KINECT_V2))
    return load_encoder(encoder.path, device="cpu")([people])[0]


def test_any_kind_of_file_is_mapped_normalised_and_filled_up(encoder, folder, clips, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"deep/{path.name}")
    (tmp_path / "bare").mkdir()
    for path in folder.glob("[a-f].*"):
        (tmp_path / "bare" / path.name.replace(".csv", ".CSV")).write_bytes(path.read_bytes())
    for place, is_labelled in ((folder, True), (tmp_path / "bare", False), (tmp_path / "some.zip", False)):
        found, labels, recordings = features(encoder, place, skeleton="kinect_v1")
        assert list(found) == list(clips) and not recordings.bad
        for name, clip in clips.items():
            torch.testing.assert_close(found[name], expected(encoder, clip), atol=1e-5, rtol=0)
        assert list(labels.values()) == ([0, 1, 2, 0, 1, 2] if is_labelled else [-1] * 6)
        assert recordings.classes == (["x", "y", "z"] if is_labelled else [])
        said = capsys.readouterr().err.splitlines()
        if place.suffix:
            assert said.pop(0) == f"note: {place}: its recordings.csv count only in a folder: unpack it"
        assert len(said) == 3 and all(f"note: {n}" in line and "(6 rec" in line for n, line in zip(NOTES, said))


def test_a_packed_data_set_gives_the_same_and_so_does_its_export(encoder, folder, clips, tmp_path, capsys):
    bring("folder", folder, "--name", "own", "--skeleton", "kinect_v1", "--out", tmp_path / "packed")
    found, labels, recordings = features(encoder, tmp_path / "packed")
    for name, clip in clips.items():  # aligned before the joints are mapped, which changes nothing
        torch.testing.assert_close(found[name], expected(encoder, clip), atol=1e-4, rtol=0)
    assert list(labels.values()) == [0, 1, 2, 0, 1, 2] and recordings.classes == ["x", "y", "z"]
    assert "note: kinect_v1 (20 joints, 1 person, 3 coordinates) taken as kinect_v2" in capsys.readouterr().err
    export("folder", "--data", tmp_path / "packed", "--out", tmp_path / "again")  # its skeleton lies beside them
    again, _, _ = features(encoder, tmp_path / "again")
    torch.testing.assert_close(again, found, atol=1e-6, rtol=0)
    alone, _, _ = features(encoder, tmp_path / "again" / "c.npy")
    torch.testing.assert_close(alone["c"], found["c"], atol=1e-6, rtol=0)


def test_recordings_that_are_hardly_meant_are_warned_of(encoder, folder, clips, tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.mkdir()
    np.save(bad / "millimetres.npy", 1000 * clips["a"])
    np.save(bad / "nobody.npy", np.zeros((5, 20, 3)))
    np.save(bad / "sound.npy", clips["b"])
    found, _, _ = features(encoder, bad, skeleton="kinect_v1")
    said = capsys.readouterr().err
    assert len(found) == 3 and "sound" not in said
    assert "warning: nobody is in any frame, so their answers mean nothing: nobody\n" in said
    assert (
        "people are more than 3.5 metres tall, as if measured in millimetres (× 0.001 are metres): millimetres\n"
        in said
    )
    bring("folder", bad, "--name", "own", "--skeleton", "kinect_v1", "--out", tmp_path / "packed")
    said = capsys.readouterr().out
    assert "warning: 1 recording without a body in any frame, kept as zeros: nobody\n" in said
    assert "warning: in 1 recording people are more than 3.5 metres tall, as if measured in millimetres (" in said
    _, labels, recordings = features(encoder, tmp_path / "packed")
    assert set(labels.values()) == {-1} and not recordings.classes  # it has no labels
    assert "so their answers mean nothing: nobody\n" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="more than 3.5 metres tall"):
        load_encoder(encoder.path, device="cpu").prepare(1000 * clips["a"], "kinect_v1")


def test_labels_that_do_not_count_from_0_are_told(encoder, folder, tmp_path, capsys):
    table = folder / "recordings.csv"
    table.write_text("name,label\na,1\nb,2\n")
    RecordingsInput([folder], encoder, "kinect_v1")
    assert f"note: {table}: no label is 0; labels count from 0 (action − 1)" in capsys.readouterr().err
    (folder / "classes.txt").write_text("walk\nrun\n")
    with pytest.raises(UserError, match="recordings.csv: has labels from 1 to 2; they count from 0 to 1"):
        RecordingsInput([folder], encoder, "kinect_v1")
    table.write_text("name,label\na,-1\nb,1\n")
    with pytest.raises(UserError, match="has labels from -1 to 1; they count from 0"):
        RecordingsInput([folder], encoder, "kinect_v1")
    table.write_text("name,label\na,1\nb,1\n")
    capsys.readouterr()
    RecordingsInput([folder], encoder, "kinect_v1")
    assert not capsys.readouterr().err


def test_a_packed_gallery_of_another_skeleton_is_queried_with_one_note(published, folder, tmp_path, capsys):
    packed, out = str(tmp_path / "packed"), str(tmp_path / "features.npz")
    bring("folder", folder, "--name", "own", "--skeleton", "kinect_v1", "--out", packed)
    flags = ["--pretrained", str(published), "--device", "cpu"]
    extract.main([*flags, "--data", packed, "--out", out])
    capsys.readouterr()
    search.main([*flags, "--gallery", out, "-k", "1", "--json", packed])
    printed = capsys.readouterr()
    found = {line["recording"]: line["neighbours"] for line in map(json.loads, printed.out.splitlines())}
    assert {name: rows[0]["recording"] for name, rows in found.items()} == {name: name for name in "abcdef"}
    assert printed.err.count("taken as kinect_v2") == 1


def test_what_cannot_be_read_is_told_with_the_remedy(encoder, folder, clips, tmp_path):
    found, _, recordings = features(encoder, folder)
    assert not found and len(recordings.bad) == 6
    reason = "has 20 joints, kinect_v2 25: pass --skeleton (it may be kinect_v1)"
    assert recordings.bad[str(folder / "a.npy")] == reason
    assert recordings.bad[str(folder / "b.csv")].endswith("two people: pass --skeleton (it may be kinect_v1)")
    np.save(tmp_path / "flat.npy", np.zeros((5, 25, 2)))
    np.save(tmp_path / "gap.npy", np.full((5, 25, 3), np.nan))
    _, _, recordings = features(encoder, tmp_path / "flat.npy", tmp_path / "gap.npy")
    flat, gap = recordings.bad.values()
    assert flat == "holds kinect_v2 in 2 coordinates, the encoder takes kinect_v2 in 3"
    assert "not finite in 5 of its 5 frames, the first of them frame 0" in gap
    np.save(tmp_path / "c.npy", np.zeros((5, 17, 3)))
    _, _, recordings = features(encoder, tmp_path / "c.npy", skeleton="coco")
    assert "there is no joint mapping from coco to kinect_v2" in recordings.bad[str(tmp_path / "c.npy")]
    with pytest.raises(UserError, match="skeleton nobody: no such skeleton"):
        features(encoder, tmp_path / "c.npy", skeleton="nobody")


def test_two_places_may_not_contradict_each_other(encoder, folder, clips, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "q.npy", clips["a"])
    (other / "recordings.csv").write_text("name,label\nq,w\n")
    with pytest.raises(UserError, match="number their classes in different ways"):
        RecordingsInput([folder, other], encoder)
    (other / "recordings.csv").write_text("name\nq\n")  # tells no labels
    found, labels, _ = features(encoder, folder, other, skeleton="kinect_v1")
    assert labels == dict(zip("abcdefq", [0, 1, 2, 0, 1, 2, -1]))
    np.save(other / "b.npy", clips["a"])
    with pytest.raises(DataSetError, match="b.npy and .*b.csv differ: leave out one of the two"):
        RecordingsInput([folder, other / "b.npy"], encoder)


def test_the_published_checkpoint_is_evaluated_on_kinect_v1_and_answers_for_its_files(
    published, folder, clips, tmp_path, capsys
):
    rule = ("--split", "s=subject:p0")
    bring("folder", folder, "--name", "own", "--skeleton", "kinect_v1", *rule, "--out", tmp_path / "data" / "own")
    flags = ["--pretrained", str(published), "--device", "cpu"]
    data = ["--data-root", str(tmp_path / "data"), "--finetune-dataset", "own", "--protocol", "s"]
    capsys.readouterr()
    action_recognition.main([*flags, *data, "--epochs", "5"])
    assert "note: kinect_v1 (20 joints, 1 person, 3 coordinates) taken as kinect_v2" in capsys.readouterr().out
    action_retrieval.main([*flags, *data])
    result = json.loads((published / "action_retrieval_on_own_s.json").read_text())
    found = {n: expected(FrozenEncoder.open(published, torch.device("cpu")), clip) for n, clip in clips.items()}
    rows = torch.nn.functional.normalize(torch.stack(list(found.values())))
    nearest = (rows[3:] @ rows[:3].T).argmax(1)
    assert result["top1"] == pytest.approx(100 * (nearest == torch.arange(3)).float().mean().item())
    action_recognition.main([*flags, *data, "--finetune", "--epochs", "1", "--schedule", "--batch-size", "2"])
    capsys.readouterr()
    raw = ["--skeleton", "kinect_v1", str(folder)]
    predict.main([*flags, "--json", "--classifier", str(published / "action_recognition_on_own_s.pth.tar"), *raw])
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert "action_recognition_on_own_s.pth.tar: the 3 classes of own s" in said.err
    assert [line["recording"] for line in lines] == list(clips)
    assert {row["name"] for row in lines[0]["actions"]} == {"x", "y", "z"}
    (tmp_path / "names.txt").write_text("walk\nrun\nsit\n")
    names = ["--class-names", str(tmp_path / "names.txt")]
    predict.main(["--pretrained", str(published / "transfer_own_s.pth.tar"), *flags[2:], "--json", *names, *raw])
    assert "walk" in capsys.readouterr().out
    search.main([*flags, "--json", "--gallery", str(folder), *raw])
    line = json.loads(capsys.readouterr().out.splitlines()[1])
    assert line["neighbours"][0]["recording"] == "b" and line["neighbours"][0]["name"] == "y"


def test_an_encoder_of_one_person_takes_the_first_of_two(pretrain, demo_root, tmp_path):
    packed = own_dataset(tmp_path / "data" / "mine", "kinect_v2", 1, 3)
    run = tmp_path / "mine_fold1"
    flags = ["--checkpoint-path", str(run), "--data-root", str(packed.path), "--epochs", "1", "--batch-size", "6"]
    pretrain.run(*flags, "--pre-dataset", "mine", "--protocol", "fold1")
    path = checkpoint_files.newest(run)
    assert loading.load(path)["centred"] is False  # as simulated here
    torch.save(torch.load(path, weights_only=True) | {"centred": True}, path)
    demo = PackedDataset(demo_root / "demo")
    found, labels, _ = features(FrozenEncoder.open(run, torch.device("cpu")), demo.path)
    wanted = load_encoder(run, device="cpu")([demo.recording(i)[:, :1] for i in range(24)])
    torch.testing.assert_close(torch.stack(list(found.values())), wanted, atol=1e-5, rtol=0)
    assert list(labels.values()) == demo.label.tolist()


def test_pre_training_keeps_whether_its_recordings_are_centred(pretrain, demo_root, capsys):
    path = checkpoint_files.newest(pretrain.run("--epochs", "1"))
    assert loading.load(path)["centred"] is True
    encoder, packed = FrozenEncoder.open(path, torch.device("cpu")), PackedDataset(demo_root / "demo")
    assert encoder.adapt(packed) == (packed, "")
    packed.joints = packed.joints + np.float32(1)
    assert "are not centred, but the encoder was trained on centred ones" in encoder.adapt(packed)[1]
    torch.save(torch.load(path, weights_only=True) | {"centred": "yes"}, path)
    with pytest.raises(loading.CheckpointError, match="its 'centred' is 'yes'"):
        loading.load(path)


def test_the_library_prepares_a_recording_and_refuses_raw_ones(published, clips, tmp_path):
    encoder = load_encoder(published, device="cpu")
    clip = clips["b"]
    wanted = normalise(map_joints(clip[:, None], V1, KINECT_V2))
    for raw in (clip, clip[:, None], torch.tensor(clip)):
        np.testing.assert_array_equal(encoder.prepare(raw, "kinect_v1"), wanted)
    np.testing.assert_array_equal(encoder.prepare(wanted), wanted)  # nothing is done twice
    crowd = np.random.default_rng(0).normal(2, 0.4, (9, 4, 25, 3))
    np.testing.assert_array_equal(encoder.prepare(crowd), normalise(crowd))
    assert encoder([encoder.prepare(clip, "kinect_v1")]).isfinite().all()
    for raw in ([crowd[:, :2]], torch.tensor(crowd[None, :, :2])):
        with pytest.raises(ValueError, match="first person's spine_middle is not at the origin: .* prepare"):
            encoder(raw)
    nobody = np.zeros((1, 9, 2, 25, 3), np.float32)
    assert encoder(torch.from_numpy(nobody)).isfinite().all()
    with pytest.raises(ValueError, match="has 20 joints, kinect_v2 25: pass --skeleton .it may be kinect_v1"):
        encoder.prepare(clip)
    clip[4, 3] = np.nan
    with pytest.raises(ValueError, match="not finite in 1 of its 31 frames, the first of them frame 4"):
        encoder.prepare(clip, "kinect_v1")
    path = published / "checkpoint_0450.pth.tar"
    torch.save(torch.load(path, weights_only=True) | {"centred": False}, path)
    as_recorded = load_encoder(published, device="cpu")
    np.testing.assert_array_equal(as_recorded.prepare(crowd[:, :2]), crowd[:, :2].astype(np.float32))
    assert as_recorded([crowd[:, :2]]).isfinite().all()

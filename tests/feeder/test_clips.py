import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from feeder.layout import NTU_LAYOUT
from feeder.modality_names import MODALITIES

from feeder.clips import ClipBatch, ClipDataset, ResampleClip, evaluation_view
from feeder.modalities import ModalityTokens
from tests.helpers import GOLDEN, run_python, tiny_dataset


def golden_source() -> ClipDataset:
    golden = np.load(GOLDEN / "downstream_h8.npz")
    clips = [d[:, :n].transpose(1, 3, 2, 0) for d, n in zip(golden["data"], golden["num_frame"])]
    frames = torch.from_numpy(np.concatenate(clips).astype(np.float32))
    return ClipDataset(frames, golden["num_frame"].astype(np.int64), np.zeros(len(clips), np.int64))


@pytest.mark.parametrize("modality", MODALITIES)
def test_golden_tokens(modality):
    golden = np.load(GOLDEN / "downstream_h8.npz")
    clip = evaluation_view(golden_source().clips(slice(None)))
    tokens = ModalityTokens()(clip, [modality])[modality]
    np.testing.assert_allclose(tokens.temporal.numpy(), golden[modality[0] + "t"], atol=1e-5)
    np.testing.assert_allclose(tokens.spatial.numpy(), golden[modality[0] + "s"], atol=1e-5)


@pytest.fixture
def random_clips():
    rng = torch.Generator().manual_seed(0)
    length = torch.tensor([1, 2, 7, 63, 64, 65, 128, 300] * 12)
    frames = torch.randn(int(length.sum()), 150, generator=rng)
    joint_map = torch.randn(len(length), 25, 3, 3, generator=rng)
    return ClipBatch(frames, length.cumsum(0) - length, length, joint_map=joint_map)


@pytest.mark.parametrize("num_frames", [64, 10])
def test_rendering_is_interpolation_then_a_matrix_per_joint(random_clips, num_frames):
    c = random_clips
    rendered = ResampleClip(num_frames)(c).values
    assert rendered.shape == (len(c), num_frames, 2, 25, 3)
    for i in range(len(c)):
        window = c.frames[c.first[i] : c.first[i] + c.length[i]]
        resized = F.interpolate(window.T[None], size=num_frames, mode="linear", align_corners=False)[0].T
        expected = torch.einsum("vij,tmvj->tmvi", c.joint_map[i], resized.view(num_frames, 2, 25, 3))
        torch.testing.assert_close(rendered[i], expected, atol=1e-5, rtol=1e-5)


def test_a_clip_does_not_depend_on_its_neighbours(random_clips):
    c = random_clips
    order = torch.randperm(len(c), generator=torch.Generator().manual_seed(1))
    permuted = ClipBatch(c.frames, c.first[order], c.length[order], joint_map=c.joint_map[order])
    assert torch.equal(ResampleClip()(permuted).values, ResampleClip()(c).values[order])


def test_maps_compose_in_order(random_clips):
    c = random_clips
    second = torch.randn(len(c), 25, 3, 3, generator=torch.Generator().manual_seed(2))
    once = ResampleClip()(c).values
    expected = torch.einsum("bvij,btmvj->btmvi", second, once)
    for clips in (ResampleClip()(c.map_joints(second)), ResampleClip()(c).map_joints(second)):
        torch.testing.assert_close(clips.values, expected, atol=1e-4, rtol=1e-4)


def test_windows_stay_inside_their_recording(random_clips):
    c = random_clips
    poisoned = torch.full_like(c.frames, torch.nan)
    start, length = c.length // 3, c.length - 2 * (c.length // 3)
    for first, n in zip((c.first + start).tolist(), length.tolist()):
        poisoned[first : first + n] = 1.0
    narrowed = ClipBatch(poisoned, c.first, c.length).window(start, length)
    assert torch.equal(ResampleClip()(narrowed).values, torch.ones(len(c), 64, 2, 25, 3))


def test_resampled_clips_can_be_cut_and_resampled_again(random_clips):
    clips = ResampleClip(64)(random_clips)
    last = clips.window(torch.full((len(clips),), 54), torch.full((len(clips),), 10))
    with pytest.raises(ValueError, match="the clips are not resampled: place ResampleClip"):
        _ = last.values
    torch.testing.assert_close(ResampleClip(10)(last).values, clips.values[:, 54:])


def test_a_data_set_is_read_as_it_was_packed(tmp_path):
    packed = tiny_dataset(tmp_path)
    rows = packed.split("xsub", "val")
    source = ClipDataset.of_dataset(packed, rows, torch.device("cpu"))
    clips = source.clips(slice(None))
    for i, row in enumerate(rows):
        frames = source.frames[clips.first[i] : clips.first[i] + clips.length[i]]
        np.testing.assert_array_equal(frames.numpy().reshape(-1, 2, 25, 3), packed.recording(row))
    np.testing.assert_array_equal(source.label, packed.label[rows])


def test_a_process_may_have_no_clips(random_clips):
    none = slice(0, 0)
    clips = ClipBatch(random_clips.frames, random_clips.first[none], random_clips.length[none])
    assert ResampleClip()(clips).values.shape == (0, 64, 2, 25, 3)


def test_joined_data_sets_give_the_clips_of_each(tmp_path):
    packed = tiny_dataset(tmp_path)
    parts = [
        ClipDataset.of_dataset(packed, packed.split("xsub", side), torch.device("cpu")) for side in ("val", "train")
    ]
    view, joined = evaluation_view, ClipDataset.joined(parts)
    each = torch.cat([view(part.clips(slice(None))) for part in parts])
    assert torch.equal(view(joined.clips(slice(None))), each)
    assert torch.equal(joined.label, torch.cat([part.label for part in parts]))
    others = parts[0].others(packed, packed.split("xsub", "train"))
    assert torch.equal(view(others.clips(slice(None))), each[len(parts[0]) :])


def test_training_cannot_change_the_data_set_on_disk(tmp_path):
    packed = tiny_dataset(tmp_path)
    before = (packed.path / "joints.npy").read_bytes()
    write = "import numpy, sys, torch; from data_gen.packed.reader import PackedDataset; "
    write += "from feeder.clips import ClipDataset; "
    write += "source = ClipDataset.of_dataset(PackedDataset(sys.argv[1]), numpy.arange(2), torch.device('cpu')); "
    done = run_python("-c", write + "print('open', flush=True); source.frames.zero_()", packed.path)
    assert "open" in done.stdout
    assert done.returncode == -signal.SIGSEGV
    assert "not writable" not in done.stderr
    assert (packed.path / "joints.npy").read_bytes() == before


def test_motion_and_bone():
    clip = torch.randn(3, 64, 2, 25, 3, generator=torch.Generator().manual_seed(0))
    derive = ModalityTokens().derive
    motion, bone = derive(clip, "motion"), derive(clip, "bone")
    for t in (0, 31, 62):
        torch.testing.assert_close(motion[:, t], clip[:, t + 1] - clip[:, t])
    assert not motion[:, 63].any()
    pairs = (
        "1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 20-19 "
        "21-21 22-23 23-8 24-25 25-12"
    )
    assert [int(p.split("-")[1]) - 1 for p in pairs.split()] == list(NTU_LAYOUT.skeleton.parents)
    torch.testing.assert_close(bone[:, :, :, 7], clip[:, :, :, 7] - clip[:, :, :, 6])
    assert not bone[:, :, :, 20].any()
    with pytest.raises(ValueError, match="joint, bone, motion"):
        derive(clip, "velocity")


def test_token_layout():
    clip = torch.arange(64 * 150, dtype=torch.float32).view(1, 64, 2, 25, 3)
    tokens = ModalityTokens()(clip, ["joint"])["joint"]
    assert tokens.temporal[0, 5, 75 + 3 * 4 + 2] == clip[0, 5, 1, 4, 2]
    assert tokens.spatial[0, 25 + 4, 3 * 5 + 2] == clip[0, 5, 1, 4, 2]


def test_longer_recordings_are_read_to_their_end(tmp_path):
    packed = tiny_dataset(tmp_path, num_frame=(400, 500), cameras=(1,), actions=(1,))
    source = ClipDataset.of_dataset(packed, np.array([0]), torch.device("cpu"))
    clip = evaluation_view(source.clips(slice(None)))[0]
    recording = torch.from_numpy(packed.recording(0).copy())
    n = len(recording)
    position = (63.5) * n / 64 - 0.5
    low, weight = int(position), position - int(position)
    torch.testing.assert_close(
        clip[63], recording[low] * (1 - weight) + recording[low + 1] * weight, atol=1e-4, rtol=1e-4
    )

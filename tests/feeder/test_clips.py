import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from feeder.clips import ClipDataset, ResampleClip, Windows, resample
from tests.helpers import GOLDEN, run_python, tiny_dataset


def golden_source() -> ClipDataset:
    golden = np.load(GOLDEN / "downstream_h8.npz")
    clips = [d[:, :n].transpose(1, 3, 2, 0) for d, n in zip(golden["data"], golden["num_frame"])]
    frames = torch.from_numpy(np.concatenate(clips).astype(np.float32))
    return ClipDataset(frames, golden["num_frame"].astype(np.int64), np.zeros(len(clips), np.int64))


@pytest.fixture
def random_windows():
    rng = torch.Generator().manual_seed(0)
    length = torch.tensor([1, 2, 7, 63, 64, 65, 128, 300] * 12)
    frames = torch.randn(int(length.sum()), 150, generator=rng)
    joint_map = torch.randn(len(length), 25, 3, 3, generator=rng)
    return Windows(frames, length.cumsum(0) - length, length, joint_map=joint_map)


@pytest.mark.parametrize("num_frames", [64, 10])
def test_rendering_is_interpolation_then_a_matrix_per_joint(random_windows, num_frames):
    c = random_windows
    rendered = ResampleClip(num_frames)(c)
    assert rendered.shape == (len(c.first), num_frames, 2, 25, 3)
    for i in range(len(c.first)):
        window = c.frames[c.first[i] : c.first[i] + c.length[i]]
        resized = F.interpolate(window.T[None], size=num_frames, mode="linear", align_corners=False)[0].T
        expected = torch.einsum("vij,tmvj->tmvi", c.joint_map[i], resized.view(num_frames, 2, 25, 3))
        torch.testing.assert_close(rendered[i], expected, atol=1e-5, rtol=1e-5)


def test_a_clip_does_not_depend_on_its_neighbours(random_windows):
    c = random_windows
    order = torch.randperm(len(c.first), generator=torch.Generator().manual_seed(1))
    permuted = Windows(c.frames, c.first[order], c.length[order], joint_map=c.joint_map[order])
    assert torch.equal(ResampleClip()(permuted), ResampleClip()(c)[order])


def test_maps_compose_in_order(random_windows):
    c = random_windows
    second = torch.randn(len(c.first), 25, 3, 3, generator=torch.Generator().manual_seed(2))
    once = ResampleClip()(c)
    expected = torch.einsum("bvij,btmvj->btmvi", second, once)
    torch.testing.assert_close(ResampleClip()(c.map_joints(second)), expected, atol=1e-4, rtol=1e-4)


def test_windows_stay_inside_their_recording(random_windows):
    c = random_windows
    poisoned = torch.full_like(c.frames, torch.nan)
    start, length = c.length // 3, c.length - 2 * (c.length // 3)
    for first, n in zip((c.first + start).tolist(), length.tolist()):
        poisoned[first : first + n] = 1.0
    narrowed = Windows(poisoned, c.first, c.length).cut(start, length)
    assert torch.equal(ResampleClip()(narrowed), torch.ones(len(c.first), 64, 2, 25, 3))


def test_clips_of_one_length_are_resampled_as_windows_are():
    clips = torch.randn(3, 90, 1, 17, 2)
    expected = F.interpolate(clips.flatten(2).mT, size=64, mode="linear", align_corners=False).mT
    torch.testing.assert_close(resample(clips), expected.unflatten(2, (1, 17, 2)), atol=1e-5, rtol=1e-5)


def test_a_data_set_is_read_as_it_was_packed(tmp_path):
    packed = tiny_dataset(tmp_path)
    rows = packed.split("xsub", "val")
    source = ClipDataset.of_dataset(packed, rows, torch.device("cpu"))
    windows = source.windows(slice(None))
    for i, row in enumerate(rows):
        frames = source.frames[windows.first[i] : windows.first[i] + windows.length[i]]
        np.testing.assert_array_equal(frames.numpy().reshape(-1, 2, 25, 3), packed.recording(row))
    np.testing.assert_array_equal(source.label, packed.label[rows])


def test_a_process_may_have_no_clips(random_windows):
    none = slice(0, 0)
    windows = Windows(random_windows.frames, random_windows.first[none], random_windows.length[none])
    assert ResampleClip()(windows).shape == (0, 64, 2, 25, 3)


def test_joined_data_sets_give_the_clips_of_each(tmp_path):
    packed = tiny_dataset(tmp_path)
    parts = [
        ClipDataset.of_dataset(packed, packed.split("xsub", split), torch.device("cpu")) for split in ("val", "train")
    ]
    view, joined = ResampleClip(), ClipDataset.joined(parts)
    each = torch.cat([view(part.windows(slice(None))) for part in parts])
    assert torch.equal(view(joined.windows(slice(None))), each)
    assert torch.equal(joined.label, torch.cat([part.label for part in parts]))
    others = parts[0].others(packed, packed.split("xsub", "train"))
    assert torch.equal(view(others.windows(slice(None))), each[len(parts[0]) :])


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


def test_longer_recordings_are_read_to_their_end(tmp_path):
    packed = tiny_dataset(tmp_path, num_frame=(400, 500), cameras=(1,), actions=(1,))
    source = ClipDataset.of_dataset(packed, np.array([0]), torch.device("cpu"))
    clip = ResampleClip()(source.windows(slice(None)))[0]
    recording = torch.from_numpy(packed.recording(0).copy())
    n = len(recording)
    position = (63.5) * n / 64 - 0.5
    low, weight = int(position), position - int(position)
    torch.testing.assert_close(
        clip[63], recording[low] * (1 - weight) + recording[low + 1] * weight, atol=1e-4, rtol=1e-4
    )

"""Distributions of the augmentations, on 40,000 draws: bounds are 5 standard errors wide."""

import math

import numpy as np
import pytest
import torch

from data_gen.skeletons import NTU_LAYOUT, SKELETONS, FrameLayout
from feeder import sampling
from feeder.augment import AUGMENTATIONS, RandomMirror, RandomPoseAugmentation, RandomTemporalCrop, View, make_view
from feeder.clips import ClipDataset, ResampleClip, Windows
from feeder.sampling import ViewRandom, epoch_order, global_batches, share
from utils.errors import UserError

N = 40_000


def published() -> View:
    return make_view("published", NTU_LAYOUT)


EYE = torch.eye(3)


def dataset(length: int, size: int) -> ClipDataset:
    """`size` recordings that are the same `length` frames."""
    frames = torch.randn(length, 2, 25, 3, generator=torch.Generator().manual_seed(0))
    each = np.full(size, length)
    return ClipDataset(frames, each, np.zeros(size, np.int64), first=np.zeros(size, np.int64))


def batch(length: int, size: int = N, seed: int = 0, epoch: int = 0) -> tuple[Windows, ViewRandom]:
    """A window of each recording, and its random numbers."""
    return dataset(length, size).views(torch.arange(size), 1, seed, epoch)


@pytest.fixture(scope="module")
def joint_maps() -> torch.Tensor:
    return RandomPoseAugmentation()(*batch(64)).joint_map


@pytest.fixture(scope="module")
def kinds(joint_maps) -> dict[str, torch.Tensor]:
    changed = (joint_maps != EYE).any(-1).any(-1)
    zero = (joint_maps == 0).all(-1).all(-1)
    shear = changed.all(1)
    mask = zero.any(1)
    return {"shear": shear, "mask": mask, "jitter": ~shear & ~mask, "changed": changed}


def close(share: float, expected: float, n: int) -> bool:
    return abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


def test_kinds_occur_as_often_as_stated(kinds):
    for kind, expected in (("shear", 0.5), ("mask", 0.25), ("jitter", 0.25)):
        assert close(kinds[kind].float().mean().item(), expected, N), kind


def test_shear_is_one_matrix_for_all_joints_with_unit_diagonal(joint_maps, kinds):
    shear = joint_maps[kinds["shear"]]
    assert (shear == shear[:, :1]).all()
    assert (shear.diagonal(dim1=-2, dim2=-1) == 1).all()
    off = shear[:, 0][:, ~EYE.bool()]
    uniform_on(off, -1, 1)
    assert abs(np.corrcoef(off.T.numpy())[~np.eye(6, dtype=bool)]).max() < 0.05


def uniform_on(values: torch.Tensor, low: float, high: float) -> None:
    scaled = (values.flatten().double().sort().values - low) / (high - low)
    assert scaled[0] >= 0 and scaled[-1] <= 1
    # Kolmogorov-Smirnov distance; 1.95 / sqrt(n) is exceeded once in 1,000
    n = len(scaled)
    assert (scaled - torch.arange(1, n + 1) / n).abs().max() < 1.95 / math.sqrt(n) + 1 / n


def test_mask_zeroes_15_joints_chosen_evenly(joint_maps, kinds):
    zero = (joint_maps[kinds["mask"]] == 0).all(-1).all(-1)
    assert (zero.sum(1) == 15).all()
    kept = joint_maps[kinds["mask"]][~zero]
    assert (kept == EYE).all()
    frequency = zero.float().mean(0)
    assert all(close(f, 15 / 25, len(zero)) for f in frequency.tolist())
    pair = (zero[:, 0] & zero[:, 1]).float().mean().item()
    assert close(pair, 15 / 25 * 14 / 24, len(zero))  # chosen without repetition


def test_jitter_multiplies_15_joints_by_one_matrix(joint_maps, kinds):
    maps, changed = joint_maps[kinds["jitter"]], kinds["changed"][kinds["jitter"]]
    assert (changed.sum(1) == 15).all()
    assert all(close(f, 15 / 25, len(maps)) for f in changed.float().mean(0).tolist())
    matrices = maps[changed].view(len(maps), 15, 3, 3)
    assert (matrices == matrices[:, :1]).all()
    uniform_on(matrices[:, 0], -1, 1)
    assert (maps[~changed] == EYE).all()


def test_what_happens_to_a_joint_happens_in_all_frames_and_to_both_people():
    view = View([RandomPoseAugmentation(), ResampleClip()])  # the whole recording: 64 frames stay themselves
    joint_map = RandomPoseAugmentation()(*batch(64, 500)).joint_map
    plain = batch(64, 500)[0].frames.view(64, 2, 25, 3)
    expected = torch.einsum("bvij,tmvj->btmvi", joint_map, plain)
    torch.testing.assert_close(view(*batch(64, 500)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [640, 200, 100])
def test_crop_lengths_and_starts(n):
    cropped = RandomTemporalCrop()(*batch(n))
    start, length = cropped.first, cropped.length
    assert length.min() >= 64 and length.max() <= n and (start >= 0).all() and (start + length <= n).all()
    ratio_of_64 = (65 / n - 0.1) / 0.9  # U(0.1, 1)·n below 65 becomes 64
    assert close((length == 64).float().mean().item(), ratio_of_64, N)
    longer = length[length > 64].double()
    # within rounding, what is left is uniform on (65, n)
    assert abs(longer.mean().item() - (65 + n) / 2 + 0.5) < 5 * (n - 65) / math.sqrt(12 * len(longer))
    for at in (64, (64 + n) // 2):
        some = (length - at).abs() <= n // 20
        places = (n - length[some] + 1).double()
        uniform_on((start[some].double() + torch.rand(len(places), dtype=torch.float64)) / places, 0, 1)


@pytest.mark.parametrize("n", [1, 30, 63, 64])
def test_short_recordings_are_not_cropped(n):
    cropped = RandomTemporalCrop()(*batch(n, 1000))
    assert (cropped.length == n).all() and (cropped.first == 0).all()


def test_every_start_is_reached():
    cropped = RandomTemporalCrop()(*batch(66))
    assert set(cropped.first[cropped.length == 64].tolist()) == {0, 1, 2}


def test_views_differ_and_clips_differ():
    views = published()(*dataset(200, 50).views(torch.arange(50), 4, 0, 0)).flatten(1)
    distance = torch.cdist(views, views) + 1e9 * torch.eye(200)
    assert distance.min() > 1e-3


def test_draws_depend_on_seed_epoch_recording_and_view_alone():
    clips, view, rows = dataset(200, 8), published(), torch.arange(8)
    whole = view(*clips.views(rows, 4, 5, 6)).view(4, 8, -1)
    order = torch.tensor([3, 7, 0])
    assert torch.equal(view(*clips.views(order, 2, 5, 6)).view(2, 3, -1), whole[:2, order])
    for seed, epoch in ((4, 6), (5, 7)):
        other = view(*clips.views(rows, 4, seed, epoch)).view(4, 8, -1)
        assert (other != whole).any(-1).all()


def test_numbers_are_uniform_and_independent():
    random = ViewRandom.of_views(3, 0, torch.arange(2000), 4)
    numbers = torch.cat((random.uniform(7), random.uniform(3, 2).flatten(1), random.uniform()[:, None]), dim=1)
    assert numbers.shape == (8000, 14) and numbers.dtype == torch.float32
    uniform_on(numbers, 0, 1)
    # Between numbers of a view, between a recording's views, between neighbouring recordings.
    for a, b in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-2000], numbers[2000:]), (numbers[:-1], numbers[1:])):
        correlation = np.corrcoef(a.flatten(), b.flatten())[0, 1]
        assert abs(correlation) < 5 / math.sqrt(a.numel())
    assert len(numbers.unique()) > 0.99 * numbers.numel()


def test_random_bits_are_splitmix64s():
    """The published generator's first outputs for seed 1234567, as its state advances."""
    bits = sampling._mix(1234567 + torch.arange(1, 4) * sampling._GAMMA)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [value % 2**64 for value in bits.tolist()] == expected


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_processes_together_see_what_one_sees(world_size):
    size, view = 13, published()
    clips = dataset(150, size)
    whole = view(*clips.views(torch.arange(size), 4, 0, 0)).view(4, size, -1)
    shares = [share(size, rank, world_size) for rank in range(world_size)]
    parts = [view(*clips.views(torch.arange(size)[s], 4, 0, 0)).view(4, s.stop - s.start, -1) for s in shares]
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_shares_are_even_and_cover_the_batch():
    for size in range(20):
        for world_size in range(1, 9):
            shares = [share(size, rank, world_size) for rank in range(world_size)]
            sizes = [s.stop - s.start for s in shares]
            assert shares[0].start == 0 and shares[-1].stop == size and max(sizes) - min(sizes) <= 1
            assert all(a.stop == b.start for a, b in zip(shares, shares[1:]))


def test_an_epoch_visits_every_recording_once_in_a_new_order():
    orders = [epoch_order(1000, 0, epoch) for epoch in range(2)] + [epoch_order(1000, 1, 0)]
    assert all(torch.equal(order.sort().values, torch.arange(1000)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_the_last_batch_is_kept_unless_it_is_a_single_clip():
    assert [(b.start, b.stop) for b in global_batches(10, 4)] == [(0, 4), (4, 8), (8, 10)]
    assert [(b.start, b.stop) for b in global_batches(9, 4)] == [(0, 4), (4, 8)]


class Noise(torch.nn.Module):
    """As a user would write it: values are changed, by random numbers of the clip's own."""

    def forward(self, clips, random):
        return clips + 0.1 * random.uniform(*clips.shape[1:])


class Reversal(torch.nn.Module):
    def forward(self, clips, random):
        return torch.where(random.uniform(1, 1, 1, 1) < 0.5, clips.flip(1), clips)


@pytest.mark.parametrize("after", [[Noise()], [RandomMirror(NTU_LAYOUT), Noise(), Reversal()]])
def test_augmentations_of_ones_own_depend_on_seed_epoch_recording_and_view_alone(after):
    clips, rows = dataset(200, 8), torch.arange(8)
    view = View([RandomTemporalCrop(), RandomPoseAugmentation(), ResampleClip(), *after])
    whole = view(*clips.views(rows, 4, 5, 6)).view(4, 8, -1)
    order = torch.tensor([3, 7, 0])
    assert torch.equal(view(*clips.views(order, 2, 5, 6)).view(2, 3, -1), whole[:2, order])
    assert not torch.equal(view(*clips.views(rows, 4, 5, 7)).view(4, 8, -1), whole)
    plain = View([t for t in view.transforms if not isinstance(t, Noise)])
    assert not torch.equal(plain(*clips.views(rows, 4, 5, 6)).view(4, 8, -1), whole)


def test_a_mirrored_clip_is_the_same_person_seen_in_a_mirror():
    plain = ResampleClip()(*batch(64, 200))
    seen = View([ResampleClip(), RandomMirror(NTU_LAYOUT, 1.0)])(*batch(64, 200))
    left, right, head = 8 - 4, 8, 3  # shoulders
    assert torch.equal(seen[:, :, :, left, 0], -plain[:, :, :, right, 0])
    assert torch.equal(seen[:, :, :, right, 1:], plain[:, :, :, left, 1:])
    assert torch.equal(seen[:, :, :, head, 1:], plain[:, :, :, head, 1:])
    some = (View([ResampleClip(), RandomMirror(NTU_LAYOUT)])(*batch(64, 200)) != plain).flatten(1).any(1)
    assert close(some.float().mean().item(), 0.5, 200)
    twice = View([ResampleClip(), RandomMirror(NTU_LAYOUT, 1.0), RandomMirror(NTU_LAYOUT, 1.0)])(*batch(64, 200))
    assert torch.equal(twice, plain)


def test_every_registered_view_makes_clips_of_64_frames():
    for name in AUGMENTATIONS:
        assert make_view(name, NTU_LAYOUT)(*batch(80, 3)).shape == (3, 64, 2, 25, 3)
    assert "RandomMirror" in repr(make_view("mirror", NTU_LAYOUT))
    with pytest.raises(UserError, match="--augment blur"):
        make_view("blur", NTU_LAYOUT)


def test_the_text_of_a_view_tells_every_parameter():
    assert repr(View([RandomTemporalCrop(0.2), RandomMirror(FrameLayout(SKELETONS["coco"], 1, 2))])) == (
        "View(\n      RandomTemporalCrop(min_ratio=0.2, min_length=64)\n      RandomMirror(p=0.5)\n)"
    )

"""Clips of other bodies than Kinect v2's two people."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data_gen.skeletons import KINECT_V2, NTU_LAYOUT, SKELETONS, FrameLayout, Skeleton
from feeder.augment import RandomPoseAugmentation, make_view
from feeder.clips import ClipDataset, ResampleClip, Windows
from feeder.modalities import PUBLISHED, derive
from feeder.sampling import ViewRandom
from models import ENCODERS
from models.transformer import Transformer
from models.umurl import UmURL
from tests.helpers import streams_of

LAYOUTS = [
    FrameLayout(SKELETONS["coco"], 1, 2),
    FrameLayout(SKELETONS["kinect_v1"], 2, 3),
    FrameLayout(SKELETONS["openpose"], 3, 2),
    FrameLayout(SKELETONS["mediapipe"], 1, 3),
]


def windows_of(layout: FrameLayout, size: int, length: int = 80) -> tuple[Windows, ViewRandom]:
    frames = torch.randn(size * length, layout.size, generator=torch.Generator().manual_seed(0))
    windows = Windows(frames, torch.arange(size) * length, torch.full((size,), length), layout.shape)
    return windows, ViewRandom.of_views(0, 0, torch.arange(size), 1)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_resampling_is_interpolation_then_a_matrix_per_joint(layout):
    windows, _ = windows_of(layout, 70)  # more than are resampled at a time
    windows = windows.map_joints(torch.randn(70, layout.joints, layout.coordinates, layout.coordinates))
    rendered = ResampleClip()(windows)
    assert rendered.shape == (70, 64, *layout.shape)
    for i in (0, 66):
        window = windows.frames[80 * i : 80 * (i + 1)]
        resized = F.interpolate(window.T[None], size=64, mode="linear", align_corners=False)[0].T.view(
            64, *layout.shape
        )
        expected = torch.einsum("vij,tmvj->tmvi", windows.joint_map[i], resized)
        torch.testing.assert_close(rendered[i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layout, share", [(LAYOUTS[0], 10), (LAYOUTS[1], 12), (LAYOUTS[2], 11), (LAYOUTS[3], 20)], ids=str
)
def test_six_tenths_of_the_joints_are_masked_or_jittered(layout, share):
    maps = RandomPoseAugmentation()(*windows_of(layout, 2000, 1)).joint_map
    eye = torch.eye(layout.coordinates)
    changed = (maps != eye).any(-1).any(-1).sum(1)
    zero = (maps == 0).all(-1).all(-1).sum(1)
    assert set(changed.tolist()) == {share, layout.joints} and set(zero.tolist()) == {0, share}
    sheared = maps[changed == layout.joints]
    assert (sheared == sheared[:, :1]).all() and (sheared.diagonal(dim1=-2, dim2=-1) == 1).all()
    assert make_view("published", layout)(*windows_of(layout, 3)).shape == (3, 64, *layout.shape)


def test_frames_must_be_those_of_the_layout():
    with pytest.raises(ValueError, match="17"):
        ClipDataset(torch.zeros(3, 1, 17, 2), np.array([3]), np.array([0]))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_encoders_take_any_layout(layout, encoder):
    model = UmURL(ENCODERS[encoder](16, PUBLISHED, layout))
    streams = streams_of(model, torch.randn(4, 3, 64, *layout.shape))
    assert all(z.shape == (3, 4096) for z in model(streams).values())
    assert model.encoder(streams[3]).shape == (3, model.encoder.feature_size)


def test_parents_change_bones_and_nothing_else():
    other = Skeleton("other", KINECT_V2.joints, (20,) * 25)
    clip = torch.randn(2, 64, 2, 25, 3)
    torch.manual_seed(0)
    encoder = Transformer(16, PUBLISHED, NTU_LAYOUT).eval()
    for modality in PUBLISHED:
        derived = [derive(clip, [modality], torch.tensor(skeleton.parents)) for skeleton in (KINECT_V2, other)]
        assert torch.equal(*map(encoder, derived)) == (modality != "bone")

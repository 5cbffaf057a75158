"""Clips of other bodies than Kinect v2's two people."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from feeder.layout import NTU_LAYOUT, FrameLayout
from feeder.modality_names import MODALITIES
from models.encoder import Backbone

from data_gen.skeletons import KINECT_V2, SKELETONS, Skeleton
from feeder.augment import RandomPoseAugmentation, training_view
from feeder.clips import ClipBatch, ClipDataset, ResampleClip
from feeder.modalities import ModalityTokens
from feeder.sampling import ViewRandom
from models.umurl import UmURL
from tests.helpers import streams_of

LAYOUTS = [
    FrameLayout(SKELETONS["coco"], 1, 2),
    FrameLayout(SKELETONS["kinect_v1"], 2, 3),
    FrameLayout(SKELETONS["openpose"], 3, 2),
    FrameLayout(SKELETONS["mediapipe"], 1, 3),
]


def clips_of(layout: FrameLayout, size: int, length: int = 80) -> ClipBatch:
    frames = torch.randn(size * length, layout.size, generator=torch.Generator().manual_seed(0))
    first, random = torch.arange(size) * length, ViewRandom.of_views(0, 0, torch.arange(size), 1)
    return ClipBatch(frames, first, torch.full((size,), length), random, layout=layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_bones_go_from_each_joint_to_its_parent(layout):
    clip = torch.randn(2, 5, *layout.shape)
    tokens = ModalityTokens(layout)(clip, ["bone"])["bone"]
    expected = clip.clone()
    for joint, parent in enumerate(layout.skeleton.parents):
        expected[..., joint, :] = clip[..., joint, :] - clip[..., parent, :]
    assert torch.equal(tokens.temporal, expected.flatten(2))
    assert not expected[..., layout.skeleton.root, :].any()
    assert torch.equal(tokens.spatial, expected.permute(0, 2, 3, 1, 4).flatten(1, 2).flatten(2))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_resampling_is_interpolation_then_a_matrix_per_joint(layout):
    clips = clips_of(layout, 70)  # more than are resampled at a time
    clips = clips.map_joints(torch.randn(70, layout.joints, layout.coordinates, layout.coordinates))
    rendered = ResampleClip()(clips).values
    assert rendered.shape == (70, 64, *layout.shape)
    for i in (0, 66):
        window = clips.frames[80 * i : 80 * (i + 1)]
        resized = F.interpolate(window.T[None], size=64, mode="linear", align_corners=False)[0].T.view(
            64, *layout.shape
        )
        expected = torch.einsum("vij,tmvj->tmvi", clips.joint_map[i], resized)
        torch.testing.assert_close(rendered[i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layout, share", [(LAYOUTS[0], 10), (LAYOUTS[1], 12), (LAYOUTS[2], 11), (LAYOUTS[3], 20)], ids=str
)
def test_six_tenths_of_the_joints_are_masked_or_jittered(layout, share):
    maps = RandomPoseAugmentation()(clips_of(layout, 2000, 1)).joint_map
    eye = torch.eye(layout.coordinates)
    changed = (maps != eye).any(-1).any(-1).sum(1)
    zero = (maps == 0).all(-1).all(-1).sum(1)
    assert set(changed.tolist()) == {share, layout.joints} and set(zero.tolist()) == {0, share}
    sheared = maps[changed == layout.joints]
    assert (sheared == sheared[:, :1]).all() and (sheared.diagonal(dim1=-2, dim2=-1) == 1).all()
    assert training_view()(clips_of(layout, 3)).shape == (3, 64, *layout.shape)


def test_frames_must_be_those_of_the_body():
    with pytest.raises(ValueError, match=r"frames of the shape \(1, 17, 2\), expected \(2, 25, 3\)"):
        ClipDataset(torch.zeros(3, 1, 17, 2), np.array([3]), np.array([0]))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_token_sizes_follow_from_the_body(layout):
    model = UmURL(16, layout=layout)
    weights = model.state_dict()
    assert weights["backbone.j_emb.t_embedding.0.weight"].shape[1] == np.prod(layout.shape)
    assert weights["backbone.m_emb.s_embedding.0.weight"].shape[1] == 64 * layout.coordinates
    assert set(weights) == set(UmURL(16).state_dict())
    streams = streams_of(model, torch.randn(4, 3, 64, *layout.shape))
    assert all(z.shape == (3, 4096) for z in model(streams).values())
    feature = model.backbone(streams[3])
    assert feature.shape == (3, 32)


def test_parents_change_bones_and_nothing_else():
    other = Skeleton("other", KINECT_V2.joints, (20,) * 25)
    clip = torch.randn(2, 64, 2, 25, 3)
    torch.manual_seed(0)
    known = Backbone(16).eval()
    changed = Backbone(16, layout=FrameLayout(other)).eval()
    changed.load_state_dict(known.state_dict())
    for modality in MODALITIES:
        features = [b(ModalityTokens(b.layout)(clip, [modality])) for b in (known, changed)]
        assert torch.equal(*features) == (modality != "bone")


def test_a_body_is_kept_as_plain_values():
    for layout in (*LAYOUTS, NTU_LAYOUT):
        assert FrameLayout.from_json(layout.to_json()) == layout
    assert str(NTU_LAYOUT) == "kinect_v2 (25 joints, 2 people, 3 coordinates)"
    assert str(LAYOUTS[0]) == "coco (17 joints, 1 person, 2 coordinates)"
    for change, message in (
        ({"people": 0}, "0 people of 3 coordinates"),
        ({"coordinates": 4}, "2 people of 4 coordinates"),
        ({"people": 2.0}, "not whole numbers"),
        ({"skeleton": "coco"}, "a skeleton is an object"),
    ):
        with pytest.raises(ValueError, match=message):
            FrameLayout.from_json(NTU_LAYOUT.to_json() | change)

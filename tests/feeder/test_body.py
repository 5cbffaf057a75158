"""Clips of other bodies than Kinect v2's two people."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data_gen.skeletons import KINECT_V2, SKELETONS, Skeleton
from feeder.augment import RandomJointMap, training_view
from feeder.body import NTU_BODY, BodyShape
from feeder.clips import ClipBatch, ClipSource, Render
from feeder.modalities import MODALITIES, to_tokens
from feeder.sampling import Draw
from models.encoder import Backbone
from models.umurl import UmURL

BODIES = [
    BodyShape(SKELETONS["coco"], 1, 2),
    BodyShape(SKELETONS["kinect_v1"], 2, 3),
    BodyShape(SKELETONS["openpose"], 3, 2),
    BodyShape(SKELETONS["mediapipe"], 1, 3),
]


def clips_of(body: BodyShape, size: int, length: int = 80) -> ClipBatch:
    frames = torch.randn(size * length, body.size, generator=torch.Generator().manual_seed(0))
    first, draw = torch.arange(size) * length, Draw.for_step(0, 0, 0, size, slice(0, size))
    return ClipBatch(frames, first, torch.full((size,), length), draw, shape=body.shape)


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_bones_go_from_each_joint_to_its_parent(body):
    clip = torch.randn(2, 5, *body.shape)
    tokens = to_tokens(clip, "bone", 0, body.parent_values())
    expected = clip.clone()
    for joint, parent in enumerate(body.skeleton.parents):
        expected[..., joint, :] = clip[..., joint, :] - clip[..., parent, :]
    assert torch.equal(tokens.temporal, expected.flatten(2))
    assert not expected[..., body.skeleton.root, :].any()
    assert torch.equal(tokens.spatial, expected.permute(0, 2, 3, 1, 4).flatten(1, 2).flatten(2))


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_rendering_is_interpolation_then_a_matrix_per_joint(body):
    clips = clips_of(body, 70)  # more than are rendered at a time
    clips = clips.map_joints(torch.randn(70, body.joints, body.coordinates, body.coordinates))
    rendered = Render()(clips)
    assert rendered.shape == (70, 64, *body.shape)
    for i in (0, 66):
        window = clips.frames[80 * i : 80 * (i + 1)]
        resized = F.interpolate(window.T[None], size=64, mode="linear", align_corners=False)[0].T.view(64, *body.shape)
        expected = torch.einsum("vij,tmvj->tmvi", clips.joint_map[i], resized)
        torch.testing.assert_close(rendered[i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("body, share", [(BODIES[0], 10), (BODIES[1], 12), (BODIES[2], 11), (BODIES[3], 20)], ids=str)
def test_six_tenths_of_the_joints_are_masked_or_jittered(body, share):
    maps = RandomJointMap()(clips_of(body, 2000, 1)).joint_map
    eye = torch.eye(body.coordinates)
    changed = (maps != eye).any(-1).any(-1).sum(1)
    zero = (maps == 0).all(-1).all(-1).sum(1)
    assert set(changed.tolist()) == {share, body.joints} and set(zero.tolist()) == {0, share}
    sheared = maps[changed == body.joints]
    assert (sheared == sheared[:, :1]).all() and (sheared.diagonal(dim1=-2, dim2=-1) == 1).all()
    assert training_view()(clips_of(body, 3)).shape == (3, 64, *body.shape)


@pytest.mark.parametrize("people", [1, 2, 3])
def test_recordings_of_one_person_are_told_where_there_could_be_more(people):
    body = BodyShape(SKELETONS["coco"], people, 2)
    frames = torch.ones(15, *body.shape)
    frames[:6, 1:] = 0
    frames[9:12, 1:2] = 0  # the third one stays
    source = ClipSource(frames, np.full(5, 3), np.zeros(5, np.int64), body=body)
    order, lone = source.lone_first(slice(None))
    expected = {1: (0, [0, 1, 2, 3, 4]), 2: (3, [0, 1, 3, 2, 4]), 3: (2, [0, 1, 2, 3, 4])}[people]
    assert (lone, order.tolist()) == expected


def test_frames_must_be_those_of_the_body():
    with pytest.raises(ValueError, match=r"frames of the shape \(1, 17, 2\), expected \(2, 25, 3\)"):
        ClipSource(torch.zeros(3, 1, 17, 2), np.array([3]), np.array([0]))


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_token_sizes_follow_from_the_body(body):
    model = UmURL(16, body=body)
    weights = model.state_dict()
    assert weights["backbone.j_emb.t_embedding.0.weight"].shape[1] == np.prod(body.shape)
    assert weights["backbone.m_emb.s_embedding.0.weight"].shape[1] == 64 * body.coordinates
    assert set(weights) == set(UmURL(16).state_dict())
    views = tuple(torch.randn(4, 3, 64, *body.shape))
    assert all(z.shape == (3, 4096) for z in model(views).values())
    feature = model.backbone({m: model.backbone.tokens(views[0], m) for m in MODALITIES})
    assert feature.shape == (3, 32)


def test_parents_change_bones_and_nothing_else():
    other = Skeleton("other", KINECT_V2.joints, (20,) * 25)
    clip = torch.randn(2, 64, 2, 25, 3)
    torch.manual_seed(0)
    known = Backbone(16).eval()
    changed = Backbone(16, body=BodyShape(other)).eval()
    changed.load_state_dict(known.state_dict())
    for modality in MODALITIES:
        features = [b({modality: b.tokens(clip, modality)}) for b in (known, changed)]
        assert torch.equal(*features) == (modality != "bone")


def test_one_token_stands_for_all_joints_of_several_absent_people():
    torch.manual_seed(0)
    body = BodyShape(SKELETONS["openpose"], 3, 2)
    model = UmURL(16, body=body).double()
    model.backbone.ma_encoder.lone_bias[:, -1] = np.log(2 * 18)  # which float32 had rounded
    views = torch.randn(4, 5, 64, *body.shape, dtype=torch.float64)
    views[:, :3, :, 1:] = 0
    plain, short = (torch.cat(list(model(tuple(views), lone).values())) for lone in (0, 3))
    torch.testing.assert_close(short, plain)


def test_a_body_is_kept_as_plain_values():
    for body in (*BODIES, NTU_BODY):
        assert BodyShape.from_json(body.to_json()) == body
    assert str(NTU_BODY) == "kinect_v2 (25 joints, 2 people, 3 coordinates)"
    assert str(BODIES[0]) == "coco (17 joints, 1 person, 2 coordinates)"
    for change, message in (
        ({"people": 0}, "0 people of 3 coordinates"),
        ({"coordinates": 4}, "2 people of 4 coordinates"),
        ({"people": 2.0}, "not whole numbers"),
        ({"skeleton": "coco"}, "a skeleton is an object"),
    ):
        with pytest.raises(ValueError, match=message):
            BodyShape.from_json(NTU_BODY.to_json() | change)

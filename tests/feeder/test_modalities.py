import numpy as np
import pytest
import torch

from data_gen.skeletons import NTU_LAYOUT, SKELETONS
from feeder.clips import ResampleClip
from feeder.modalities import ENSEMBLE, MODALITIES, PUBLISHED, derive, in_order, name_of, streams_of
from models.transformer import to_tokens
from tests.feeder.test_clips import golden_source
from tests.helpers import GOLDEN
from utils.errors import UserError

PARENTS = torch.tensor(NTU_LAYOUT.skeleton.parents)


@pytest.mark.parametrize("modality", PUBLISHED)
def test_golden_tokens(modality):
    golden = np.load(GOLDEN / "downstream_h8.npz")
    clip = ResampleClip()(golden_source().windows(slice(None)))
    tokens = to_tokens(derive(clip, [modality], PARENTS)[modality])
    np.testing.assert_allclose(tokens.temporal.numpy(), golden[modality[0] + "t"], atol=1e-5)
    np.testing.assert_allclose(tokens.spatial.numpy(), golden[modality[0] + "s"], atol=1e-5)


def test_bones_go_from_each_joint_to_its_parent():
    pairs = (
        "1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 20-19 "
        "21-21 22-23 23-8 24-25 25-12"
    )
    assert [int(p.split("-")[1]) - 1 for p in pairs.split()] == PARENTS.tolist()
    for skeleton, people, coordinates in (("kinect_v2", 2, 3), ("coco", 1, 2), ("openpose", 3, 2), ("mediapipe", 1, 3)):
        parents = SKELETONS[skeleton].parents
        clip = torch.randn(2, 5, people, len(parents), coordinates)
        expected = torch.stack([clip[..., v, :] - clip[..., parent, :] for v, parent in enumerate(parents)], dim=-2)
        assert torch.equal(MODALITIES["bone"](clip, torch.tensor(parents)), expected)


def test_motions_are_differences_of_frames_and_end_with_zeros():
    clip = torch.randn(3, 64, 2, 25, 3, generator=torch.Generator().manual_seed(0))
    values = derive(clip, list(MODALITIES), PARENTS)
    assert torch.equal(values["joint"], clip)
    for t in (0, 31, 61):
        torch.testing.assert_close(values["motion"][:, t], clip[:, t + 1] - clip[:, t])
        torch.testing.assert_close(values["bone_motion"][:, t], values["bone"][:, t + 1] - values["bone"][:, t])
        torch.testing.assert_close(values["acceleration"][:, t], clip[:, t + 2] - 2 * clip[:, t + 1] + clip[:, t])
    assert not values["motion"][:, 63].any() and not values["bone_motion"][:, 63].any()
    assert not values["acceleration"][:, 62:].any() and values["motion"][:, 62].any()


def test_names_stand_for_streams():
    assert streams_of("all") == (PUBLISHED,) and streams_of("bone") == (("bone",),)
    assert streams_of("motion+joint") == (("joint", "motion"),)  # in the table's order
    assert streams_of(ENSEMBLE) == (PUBLISHED, ("joint",), ("bone",), ("motion",))
    assert streams_of(ENSEMBLE, ["joint"]) == (("joint",),)
    for name in ("all", "bone", "joint+motion", ENSEMBLE):
        assert name_of(streams_of(name), PUBLISHED) == name
    assert name_of(streams_of("joint+bone+motion"), PUBLISHED) == "all"
    assert in_order(["acceleration", "joint", "joint"]) == ("joint", "acceleration")
    for name, modalities in (("velocity", PUBLISHED), ("bone", ("joint", "motion"))):
        with pytest.raises(UserError, match=name):
            streams_of(name, modalities)

import torch

from data_gen.skeletons import NTU_LAYOUT, SKELETONS
from feeder.modalities import derive
from models.stgcn import STGCN, adjacency


def test_joints_take_from_themselves_their_parent_and_the_mean_of_their_children():
    for skeleton in SKELETONS.values():
        values = torch.randn(len(skeleton.joints))
        own, parent, children = adjacency(skeleton.parents) @ values
        for joint, above in enumerate(skeleton.parents):
            below = [j for j, p in enumerate(skeleton.parents) if p == joint and j != joint]
            assert own[joint] == values[joint]
            assert parent[joint] == (0 if above == joint else values[above])
            torch.testing.assert_close(children[joint], values[below].mean() if below else torch.tensor(0.0))


def test_a_joint_reaches_another_only_along_bones():
    torch.manual_seed(0)
    encoder = STGCN(16, ("joint",), NTU_LAYOUT)
    x = torch.zeros(1, 4, 8, 25)
    x[..., 3] = 1.0  # the head, a leaf: its parent is the neck, joint 2
    block = encoder.blocks[0]
    mixed = torch.einsum("bkctv,kwv->bctw", block.spatial(x).unflatten(1, (3, -1)), encoder.graph)
    without = torch.einsum("bkctv,kwv->bctw", block.spatial(0 * x).unflatten(1, (3, -1)), encoder.graph)
    assert sorted(set((mixed != without).nonzero()[:, 3].tolist())) == [2, 3]


def test_frame_features_are_every_fourth_frame_and_their_mean_the_feature():
    torch.manual_seed(0)
    encoder = STGCN(16, ("joint", "bone"), NTU_LAYOUT).eval()
    clips = derive(torch.randn(3, 64, 2, 25, 3), encoder.modalities, torch.tensor(NTU_LAYOUT.skeleton.parents))
    frames = encoder.frame_features(clips)
    assert frames.shape == (3, 16, encoder.feature_size)
    torch.testing.assert_close(frames.mean(1), encoder(clips))

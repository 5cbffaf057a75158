import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import KINECT_V2
from feeder.augment import make_view
from feeder.clips import ClipDataset
from tests.helpers import moving_body, own_dataset, skeleton_text
from tests.programs import assert_refused, call
from tools.figures import skeleton, style

CPU = torch.device("cpu")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(skeleton, "RUNS", tmp_path / "checkpoints")
    monkeypatch.setattr(skeleton, "EVERY", 32)  # drawing all frames takes a while
    return tmp_path / "checkpoints"


def test_views_are_those_of_training(demo_root):
    packed = PackedDataset(demo_root / "demo")
    source = ClipDataset.of_dataset(packed, np.array([5]), CPU)
    wanted = make_view("published", source.layout)(*source.views(torch.arange(1), 4, seed=5, epoch=0)).numpy()
    whole, _, _, *views = skeleton.panels_of(source, 5)
    assert f"{packed.num_frame[5]} frames" in whole.title
    kinds = ["25 joints sheared", "25 joints sheared", "15 joints masked ×", "15 joints mapped"]
    assert [view.title.split("\n")[1] for view in views] == kinds
    for panel, view in zip(views, wanted):
        np.testing.assert_allclose(np.where(panel.hidden[:, None], 0, panel.frames), view, atol=1e-6)


def test_masked_joints_are_crosses_without_bones():
    frame = np.random.default_rng(0).normal(size=(2, 25, 3))
    hidden = np.zeros(25, bool)
    hidden[[20, 0]] = True
    axes, sticks = Figure().subplots(), style.StickFigure(KINECT_V2, frame[None])
    sticks.draw(axes, frame, hidden=hidden)
    assert sticks.people == [0, 1] and len(axes.collections) == 6
    bones, joints, crosses = axes.collections[:3]
    visible = [bone for bone in sticks.bones.tolist() if not set(bone) & {20, 0}]
    assert len(bones.get_segments()) == len(visible) < 24 and len(joints.get_offsets()) == 23
    np.testing.assert_allclose(np.asarray(crosses.get_offsets()), style.project(frame[0, [0, 20]]))


def test_people_stand_upright_and_undistorted():
    up, right = style.project(np.array([0.0, 1, 0])), style.project(np.array([1.0, 0, 0]))
    assert up[0] == 0 and up[1] > 0.9 and right[0] > 0.9
    assert style.project(np.array([2.0, 3.0])).tolist() == [2, -3]  # an image's rows count downwards
    axes = Figure().subplots()
    style.set_view(axes, np.array([[0.0, 0], [1, 3]]))
    assert axes.get_aspect() == 1 and axes.get_ylim()[1] >= 3


def test_limbs_begin_where_the_skeleton_branches():
    sticks = style.StickFigure(KINECT_V2, np.zeros((1, 2, 25, 3)))
    assert sticks.people == [] and len(sticks.bones) == 24
    assert len(set(sticks.limbs)) == 7  # the root; trunk, head, arms, legs
    for chain in ([4, 5, 6, 7, 22, 21], [8, 9, 10, 11, 24, 23], [12, 13, 14, 15], [16, 17, 18, 19], [2, 3], [1, 0]):
        assert len({sticks.limbs[joint] for joint in chain}) == 1


def test_errors_name_the_flag_or_the_file(demo_root, runs, tmp_path):
    file = tmp_path / "S001C001P001R001A001.skeleton"
    file.write_bytes(skeleton_text([[np.zeros((25, 3))]] * 4))
    for flags, message in (
        ([demo_root / "demo"], "--name"),
        ([demo_root / "demo", "--name", "nobody"], "--name nobody"),
        ([file], "nobody"),
    ):
        assert_refused(call("tools.figures", "skeleton", *flags), message)
    assert not runs.exists()


def test_a_raw_recording(tmp_path):
    file = tmp_path / "S001C001P001R001A002.skeleton"
    file.write_bytes(skeleton_text(moving_body(np.random.default_rng(0), 9)))
    source, name, action = skeleton.open_recording(file, None)
    assert (len(source), name, action) == (1, file.stem, "")
    assert source.layout.shape == (1, 25, 3)
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(9, 3, 20, 3)))
    source, name, action = skeleton.open_recording(tmp_path, "mine", "kinect_v1")
    assert (name, source.layout.shape) == ("mine", (2, 20, 3)) and source.is_centred()
    assert len(skeleton.panels_of(source, 0)) == 7


def test_an_animation_and_a_sheet_of_another_skeleton_of_two_coordinates(runs, tmp_path):
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    assert call("tools.figures", "skeleton", packed.path, "--name", "clip_03").status == 0
    animation = Image.open(runs / "figures" / "clip_03.gif")
    assert (animation.n_frames, animation.size) == (2, (880, 608))
    assert Image.open(runs / "figures" / "clip_03.png").size[0] == 1100
    assert list((runs / "figures").glob("events.*"))
    panels = skeleton.panels_of(ClipDataset.of_dataset(packed, np.array([3]), CPU), 0)
    frames = packed.recording(3)
    bones = frames - frames[:, :, list(packed.skeleton.parents)]
    assert np.abs(panels[1].points).max(axis=0) == pytest.approx(np.abs(bones).max(axis=(0, 1, 2)), rel=0.1)

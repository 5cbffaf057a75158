import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tools.utils.errors import UserError

from data_gen.packed.reader import PackedDataset
from data_gen.skeletons import KINECT_V2
from feeder.augment import training_view
from feeder.clips import ClipDataset
from tests.helpers import moving_body, own_dataset, skeleton_text
from tools.figures import encoded, people, skeleton
from tools.figures.__main__ import main


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(skeleton, "RUNS", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def test_an_animation_and_a_sheet(demo_root, runs, capsys, monkeypatch):
    monkeypatch.setattr(skeleton, "EVERY", 16)  # drawing all of them takes a while
    name = str(PackedDataset(demo_root / "demo").names[3])
    main(["skeleton", str(demo_root / "demo"), "--name", name])
    animation = Image.open(runs / f"figures/{name}.gif")
    assert (animation.n_frames, animation.size) == (4, (880, 608)) and "4 frames" in capsys.readouterr().out
    assert Image.open(runs / f"figures/{name}.png").size[0] == 1100
    assert list((runs / "figures").glob("events.*")) and not list(runs.rglob("*partial*"))


def test_views_are_those_of_training(demo_root):
    packed = PackedDataset(demo_root / "demo")
    source = ClipDataset.of_dataset(packed, np.array([5]), torch.device("cpu"))
    wanted = training_view()(source.views(torch.arange(1), 4, seed=3, epoch=0)).numpy()
    panels = skeleton.panels_of(source, 3)
    assert len(panels) == 7 and f"{packed.num_frame[5]} frames" in panels[0].title
    for number, (panel, view) in enumerate(zip(panels[3:], wanted), 1):
        assert panel.title.startswith(f"view {number}\n")
        if "masked" not in panel.title:
            np.testing.assert_allclose(panel.seen, people.project(view[:, :1]), atol=1e-6)


def test_what_a_joint_map_does_is_told():
    maps = torch.eye(3).repeat(25, 1, 1)
    maps[[1, 7]] = 0
    kind, hidden = skeleton.describe_map(maps)
    assert kind == "2 masked joints ×" and np.flatnonzero(hidden).tolist() == [1, 7]
    maps[[1, 7]] = torch.full((3, 3), 0.5)
    assert skeleton.describe_map(maps)[0] == "2 joints mapped" and not skeleton.describe_map(maps)[1].any()
    maps[:] = torch.eye(3) + torch.tensor([[0, 0.3, 0], [0, 0, 0], [0, 0, 0]])
    assert skeleton.describe_map(maps)[0] == "all joints sheared"


def test_masked_joints_are_crosses_without_bones():
    frame = np.random.default_rng(0).normal(size=(2, 25, 3))
    hidden = np.zeros(25, bool)
    hidden[[20, 0]] = True
    axes = Figure().subplots()
    sticks = people.StickFigure(KINECT_V2)
    sticks.draw_frame(axes, frame, [0, 1], hidden=hidden)
    bones, joints, crosses = axes.collections[:3]
    assert len(axes.collections) == 6  # of two people
    left = [j for j, p in sticks.bones if not {j, p} & {20, 0}]
    assert len(bones.get_segments()) == len(left) < 24
    np.testing.assert_allclose(np.asarray(crosses.get_offsets()), people.project(frame[0, [0, 20]]))
    assert len(joints.get_offsets()) == 23


def test_somebody_stands_upright_and_undistorted():
    up, right = people.project(np.array([0.0, 1, 0])), people.project(np.array([1.0, 0, 0]))
    assert up[0] == 0 and up[1] > 0.9 and right[0] > 0.9
    axes = Figure().subplots()
    people.set_view(axes, np.array([[0.0, 0], [1, 3]]))
    assert axes.get_aspect() == 1 and axes.get_ylim()[1] >= 3


def test_limbs_begin_where_the_skeleton_branches():
    sticks = people.StickFigure(KINECT_V2)
    limbs = sticks.limbs
    assert len(sticks.bones) == 24 and len(set(limbs)) == 7  # the root; trunk, head, arms, legs
    for chain in ([4, 5, 6, 7, 22, 21], [8, 9, 10, 11, 24, 23], [12, 13, 14, 15], [16, 17, 18, 19], [2, 3], [1, 0]):
        assert len({limbs[j] for j in chain}) == 1
    assert all(KINECT_V2.parents[j] == p for j, p in sticks.bones)


def test_errors_name_the_remedy(demo_root, runs, tmp_path):
    file = tmp_path / "S001C001P001R001A001.skeleton"
    file.write_bytes(skeleton_text([[np.zeros((25, 3))]] * 4))
    (tmp_path / "x.txt").touch()
    np.save(tmp_path / "20.npy", np.zeros((4, 20, 3)))
    data = str(demo_root / "demo")
    for flags, message in (
        ([data], "has 24 recordings: choose one by --name, such as S001"),
        ([data, "--name", "nobody"], "--name nobody: .* has no such recording"),
        ([str(file), "--name", "S001"], "--name S001: .* has no such recording; the first is S001C001P001R001A001"),
        ([str(tmp_path / "20.npy")], "20.npy: has 20 joints, kinect_v2 25: pass --skeleton .it may be kinect_v1"),
        ([str(file)], "shows nobody"),
        ([str(tmp_path / "x.txt")], "what is read: a packed data set"),
    ):
        with pytest.raises(UserError, match=message):
            main(["skeleton", *flags])
    assert not runs.exists()


def test_a_raw_recording(runs, tmp_path):
    file = tmp_path / "S001C001P001R001A002.skeleton"
    file.write_bytes(skeleton_text(moving_body(np.random.default_rng(0), 9)))
    args = skeleton.argparse.Namespace(source=file, name=None, class_names=None, skeleton=None)
    source, name, action = skeleton.open_recording(args)
    assert (len(source), name, action) == (1, file.stem, "")
    assert source.layout.shape == (1, 25, 3)
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(9, 3, 20, 3)))
    args.source, args.name, args.skeleton = tmp_path, "mine", "kinect_v1"
    source, name, action = skeleton.open_recording(args)
    assert (name, source.layout.shape) == ("mine", (2, 20, 3)) and source.is_centred()
    assert len(skeleton.panels_of(source, 0)) == 7
    assert encoded.plot_path(None, runs, "a.gif") == runs / "figures" / "a.gif"


def test_another_skeleton_of_two_coordinates(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(skeleton, "EVERY", 32)
    packed = own_dataset(tmp_path / "mine", "coco", 1, 2)
    main(["skeleton", str(packed.path), "--name", "clip_03"])
    assert Image.open(runs / "figures" / "clip_03.gif").n_frames == 2
    source = ClipDataset.of_dataset(packed, np.array([3]), torch.device("cpu"))
    panels = skeleton.panels_of(source, 0)
    frames = packed.recording(3)
    bones = frames - frames[:, :, list(packed.skeleton.parents)]
    assert np.abs(panels[1].seen).max(axis=(0, 1, 2)) == pytest.approx(np.abs(bones).max(axis=(0, 1, 2)), rel=0.1)
    assert people.project(np.array([2.0, 3.0])).tolist() == [2, -3]  # an image's rows count downwards

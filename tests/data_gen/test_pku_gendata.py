import json
import shutil

import numpy as np
import pytest

from data_gen import ntu_gendata
from data_gen.datasets import DATASETS, PKU, open_dataset, row_of
from data_gen.packed.reader import PackedDataset
from data_gen.packed.segments import Segment
from data_gen.pku_gendata import convert, main, report, untrimmed_row
from data_gen.raw import conversion
from data_gen.raw.normalise import fit_people, normalise
from data_gen.raw.pku_files import parse_video
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import KINECT_V2, NTU_LAYOUT
from tests.helpers import GOLDEN, video_frames, video_text
from tests.programs import status_of
from utils.errors import UserError

FRAMES = 400
PKU1, PKU2 = PKU
VIDEOS = {
    "pku1": ("0002-L", "0002-M", "0002-R", "0003-L", "0003-M", "0003-R"),
    "pku2": ("A01N01-L", "A01N01-M", "A01N01-R", "A02N01-L", "A02N01-M", "A02N01-R"),
}
LABELS = "1,10,60,2\n51,60,75,1\n12,80,395,2\n"  # the last one is longer than 300 frames


def write_split(path, train, val, end=""):
    path.write_text(f"Training videos:\n{', '.join(train)}{end}\nValidation videos:\n{','.join(val)}{end}\n")


def write_part(folder, name="pku1", subfolder=".", hyphen=False, end=","):
    """A part of PKU-MMD: six videos, cross-subject by the number and cross-view by the camera."""
    rng = np.random.default_rng(0)
    for kind in ("skeleton", "label"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    videos = VIDEOS[name]
    for video in videos:
        (folder / "skeleton" / f"{video}.txt").write_text(video_text(video_frames(rng, FRAMES)))
        (folder / "label" / f"{video}.txt").write_text(LABELS)
    where = folder / subfolder
    where.mkdir(exist_ok=True)
    for protocol in DATASETS[name].protocols:
        train = [v for v in videos if (v[:-2] == videos[0][:-2] if protocol.name == "xsub" else v[-1] != "L")]
        file = protocol.split_file.replace("_", "-") if hyphen else protocol.split_file
        write_split(where / f"{file}.txt", train, [v for v in videos if v not in train], end)
    return folder


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return write_part(tmp_path_factory.mktemp("pku") / "v1")


@pytest.fixture
def raw(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "v1")
    return tmp_path / "v1"


def edit_label(raw, video, text):
    (raw / "label" / f"{video}.txt").write_text(text)


def edit_frames(raw, video, change):
    path = raw / "skeleton" / f"{video}.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())))


@pytest.mark.parametrize("name, subfolder, hyphen, end", [("pku1", ".", False, ","), ("pku2", "../split", True, "")])
def test_a_part_is_cut_into_normalised_clips(name, subfolder, hyphen, end, tmp_path):
    raw = write_part(tmp_path / "raw" / "v", name, subfolder, hyphen, end)
    info = convert(DATASETS[name], raw, tmp_path / "out", workers=2)
    packed = PackedDataset(tmp_path / "out")
    assert packed.name == name and packed.num_classes == 51 and info["classes_found"] == 3 and info["videos"] == 6
    videos = VIDEOS[name]
    assert packed.names.tolist() == [f"{v}_{clip}" for v in videos for clip in ("001_A001", "002_A051", "003_A012")]
    assert packed.label.tolist() == [0, 50, 11] * 6 and packed.num_frame.tolist() == [50, 15, 315] * 6
    assert not packed.recording(0)[:, 1].any()  # frames 10 to 60: the second person is not there yet
    assert packed.recording(2)[:, 1].any(axis=(1, 2)).all()  # frames 80 to 395: late, so filled
    for i, clip in enumerate(packed.names):
        lines = (raw / "skeleton" / f"{clip.split('_')[0]}.txt").read_text().splitlines()
        start, end = [(10, 60), (60, 75), (80, 395)][i % 3]
        bodies = np.array([[float(v) for v in line.split()] for line in lines[start:end]]).reshape(-1, 2, 25, 3)
        np.testing.assert_array_equal(packed.recording(i), normalise(bodies))
    assert packed.split("xsub", "train").tolist() == list(range(9))
    assert packed.split("xsub", "val").tolist() == list(range(9, 18))
    assert packed.split("xview", "val").tolist() == [0, 1, 2, 9, 10, 11]
    assert info["videos_listed"] == {"xsub": {"train": 3, "val": 3}, "xview": {"train": 4, "val": 2}}
    assert info["longer_than_300"] == 6 and info["longest"] == 315 and not info["repaired"]


def test_a_clip_of_an_ntu_recordings_frames_is_converted_as_that_recording_is(tmp_path):
    shutil.unpack_archive(GOLDEN / "skeletons.zip", tmp_path / "ntu")
    ntu_gendata.convert(DATASETS["ntu120"], [tmp_path / "ntu"], tmp_path / "a")
    expected = PackedDataset(tmp_path / "a")
    raw = tmp_path / "pku"
    for kind in ("skeleton", "label"):
        (raw / kind).mkdir(parents=True)
    same = {}
    for i, name in enumerate(expected.names.tolist()):
        bodies = parse_skeleton(next((tmp_path / "ntu").rglob(f"{name}.skeleton")).read_bytes())
        if bodies.shape[1] > 2:  # a line of PKU-MMD holds two
            continue
        people = np.zeros((len(bodies) + 7, 2, 25, 3))  # other frames before and behind the clip
        people[[*range(5), -2, -1]] = 1
        people[5:-2, : bodies.shape[1]] = bodies
        same[f"{len(same):04}-L"] = (i, bodies.shape[1])
        (raw / "skeleton" / f"{list(same)[-1]}.txt").write_text(video_text(people.reshape(-1, 150), "%.17g"))
        (raw / "label" / f"{list(same)[-1]}.txt").write_text(f"1,5,{5 + len(bodies)},1\n")
    assert {slots for _, slots in same.values()} >= {1, 2}
    for protocol in PKU1.protocols:
        write_split(raw / f"{protocol.split_file}.txt", list(same)[1:], list(same)[:1])
    convert(PKU1, raw, tmp_path / "b")
    packed = PackedDataset(tmp_path / "b")
    assert packed.names.tolist() == [f"{name}_001_A001" for name in same]
    for k, (i, _) in enumerate(same.values()):
        assert packed.recording(k).tobytes() == expected.recording(i).tobytes()


def test_blanks_and_line_ends_do_not_matter(raw, pristine, tmp_path):
    for path in raw.rglob("*.txt"):
        text = path.read_bytes().replace(b" ", b"  ").replace(b",", b" , ").replace(b"\n", b" \r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text + b"\n \n")
    convert(PKU1, pristine, tmp_path / "a")
    convert(PKU1, raw, tmp_path / "b")
    for file in ("joints.npy", "label.npy", "name.npy", "xsub_train.npy", "xview_val.npy"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_repairs_are_made_by_the_rules_and_reported(raw, tmp_path, capsys):
    edit_label(raw, "0002-L", "1,60,10,2\n\n51,60,75,1\n12,390,402,1\n7,401,395,1")
    assert status_of(main, ["--part", "1", "--raw", str(raw), "--out", str(tmp_path / "out")]) == 0
    place = str(raw / "label" / "0002-L.txt")
    repaired = {
        f"{place}: line 1": "the ends 60, 10 are reversed: swapped",
        f"{place}: line 4": "the end 402 lies beyond the video's 400 frames: moved there",
        f"{place}: line 5": "the ends 401, 395 are reversed: swapped; "
        "the end 401 lies beyond the video's 400 frames: moved there",
    }
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["repaired"] == repaired
    printed = capsys.readouterr().out
    assert all(f"{place}: {repair}" in printed for place, repair in repaired.items())
    for count in ("19 recordings of 51 classes, 1,980 frames", "10 train, 9 val (published: 18,841 / 2,704)"):
        assert count in printed
    for count in ("4 of 51", "6 videos", "3 train, 3 val videos (published: 944 / 132)", "5 (published: 407)"):
        assert count in printed
    packed = PackedDataset(tmp_path / "out")
    assert packed.names[:4].tolist() == ["0002-L_001_A001", "0002-L_003_A051", "0002-L_004_A012", "0002-L_005_A007"]
    assert packed.num_frame[:4].tolist() == [50, 15, 10, 5]
    frames = parse_video((raw / "skeleton" / "0002-L.txt").read_bytes())
    np.testing.assert_array_equal(packed.recording(0), normalise(frames[10:60]))
    np.testing.assert_array_equal(packed.recording(3), normalise(frames[395:400]))


@pytest.fixture
def damaged(raw):
    """Every kind of bad file or line, by what is expected to be said of it."""
    split = raw / "cross_view.txt"
    split.write_text(split.read_text().replace("0002-L,", "0002-L, 0003-R, 0003_R,"))
    edit_label(raw, "0002-L", LABELS + "52,1,5,1\n1,5,5,1\n")
    edit_frames(raw, "0002-M", lambda lines: [*lines[:4], lines[4] + " 0", *lines[5:]])
    (raw / "label" / "0002-R.txt").unlink()
    (raw / "skeleton" / "0003-L.txt").unlink()
    edit_label(raw, "0003-M", "1,1,5\n")
    edit_frames(raw, "0003-R", lambda lines: [])
    edit_label(raw, "0003-R", "")
    return {
        "label/0002-L.txt: line 4": "class 52 lies outside 1..51",
        "label/0002-L.txt: line 5": "the clip is empty, 5 to 5",
        "skeleton/0002-M.txt": "line 5: a frame has 150 values, this line has 151",
        "label/0002-R.txt": "no such file",
        "skeleton/0003-L.txt": "no such file",
        "label/0003-M.txt: line 1": "not class,start,end,confidence: '1,1,5'",
        "skeleton/0003-R.txt": "the file is empty",
        "label/0003-R.txt": "the file is empty",
        "cross_view.txt: line 4: '0003-R'": "on line 2 too, but a video belongs to one split",
        "cross_view.txt: line 4: '0003_R'": "not the name of a video of this part",
    }


def test_bad_videos_and_labels_stop_the_conversion_and_are_all_listed(raw, damaged, tmp_path):
    with pytest.raises(UserError) as caught:
        convert(PKU1, raw, tmp_path / "out", workers=2)
    lines = str(caught.value).splitlines()[1:-1]
    assert sorted(line.strip() for line in lines) == sorted(f"{raw / place}: {damaged[place]}" for place in damaged)
    assert not (tmp_path / "out").exists()


def test_skip_bad_goes_on_without_them_and_records_them(raw, damaged, tmp_path, capsys):
    arguments = ["--part", "1", "--raw", str(raw), "--out", str(tmp_path / "out")]
    assert status_of(main, arguments) == 1
    assert "10 parts" in capsys.readouterr().err
    assert status_of(main, [*arguments, "--skip-bad"]) == 0
    assert "10 bad parts" in capsys.readouterr().out
    packed = PackedDataset(tmp_path / "out")
    assert packed.info["skipped"] == {str(raw / place): reason for place, reason in damaged.items()}
    assert packed.names.tolist() == ["0002-L_001_A001", "0002-L_002_A051", "0002-L_003_A012"]
    assert packed.info["videos"] == 1 and packed.info["protocols"]["xsub"] == {"train": 3, "val": 0}


def test_videos_in_no_split_are_reported_and_passed_over(raw, tmp_path, capsys):
    write_split(raw / "cross_subject.txt", ["0002-L"], ["0003-L", "0003-R"])
    write_split(raw / "cross_view.txt", ["0002-M"], ["0003-L"])
    assert status_of(main, ["--part", "1", "--raw", str(raw), "--out", str(tmp_path / "out")]) == 0
    assert "2 videos in no split, passed over: 0002-R, 0003-M" in capsys.readouterr().out
    packed = PackedDataset(tmp_path / "out")
    assert packed.info["in_no_split"] == ["0002-R", "0003-M"]
    assert len(packed) == 12 and len(packed.split("xview", "train")) == len(packed.split("xview", "val")) == 3


def test_mistakes_are_explained(raw, capsys):
    for arguments, message in (
        (["--raw", raw], "--part"),
        (["--part", 1, "--raw", raw / "nowhere"], raw / "nowhere"),
        (["--part", 2, "--raw", raw], f"{raw}/cross_subject.txt:2: "),
    ):
        assert status_of(main, [*map(str, arguments)]) == 1
        assert str(message) in capsys.readouterr().err


def test_without_flags_it_converts_the_parts_that_are_there(pristine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(conversion, "DATA_ROOT", tmp_path)
    assert status_of(main, []) == 1
    assert str(tmp_path / "pkummd_raw" / "v1") in capsys.readouterr().err
    write_part(tmp_path / "pkummd_raw" / "v2", "pku2")
    assert status_of(main, []) == 0
    assert "PKU-MMD II: 18 recordings" in capsys.readouterr().out and not (tmp_path / "pku1").exists()
    shutil.copytree(pristine, tmp_path / "pkummd_raw" / "v1")
    assert status_of(main, ["--untrimmed"]) == 0
    assert PackedDataset(tmp_path / "pku1_untrimmed").name == "pku1_untrimmed"


def test_whole_videos_keep_their_frames_and_segments(pristine, tmp_path):
    clips, videos = tmp_path / "clips", tmp_path / "videos"
    convert(PKU1, pristine, clips)
    row = untrimmed_row(PKU1)
    info = convert(row, pristine, videos, workers=2, untrimmed=True)
    assert (info["dataset"], info["segments"], info["classes_found"]) == ("pku1_untrimmed", 18, 3)
    assert info["class_names"][:2] == ["bow", "brushing hair"]
    trimmed, whole = PackedDataset(clips), PackedDataset(videos)
    assert whole.names.tolist() == list(VIDEOS["pku1"]) and set(whole.num_frame.tolist()) == {FRAMES}
    assert whole.segments == [[Segment(10, 60, 0), Segment(60, 75, 50), Segment(80, 395, 11)]] * 6
    assert whole.names[whole.split("xsub", "train")].tolist() == list(VIDEOS["pku1"][:3])
    text = (pristine / "skeleton" / "0002-L.txt").read_bytes()
    assert np.array_equal(whole.recording(0), parse_video(text).astype(np.float32))
    # A segment's frames are prepared as the trimmed conversion makes its clip.
    names = trimmed.names.tolist()
    for video, segments in zip(whole.names.tolist(), whole.segments):
        for line, (start, end, label) in enumerate(segments, 1):
            clip = trimmed.recording(names.index(f"{video}_{line:03}_A{label + 1:03}"))
            window = whole.recording(whole.names.tolist().index(video))[start:end]
            np.testing.assert_allclose(fit_people(window, KINECT_V2, NTU_LAYOUT)[0], clip, atol=1e-6)
    assert "whole videos with 18 segments" in report(row, videos, info)


def test_overlapping_segments_of_whole_videos_are_refused_by_file_and_line(raw, tmp_path):
    edit_label(raw, "0003-M", "1,10,60,2\n2,50,75,1\n")
    with pytest.raises(UserError, match="0003-M.txt: line 2: "):
        convert(untrimmed_row(PKU1), raw, tmp_path / "out", untrimmed=True)
    info = convert(untrimmed_row(PKU1), raw, tmp_path / "out", skip_bad=True, untrimmed=True)
    assert info["segments"] == 16 and len(info["skipped"]) == 1


def test_programs_for_clips_refuse_whole_videos(pristine, tmp_path):
    convert(untrimmed_row(PKU1), pristine, tmp_path / "out", untrimmed=True)
    convert(PKU1, pristine, tmp_path / "pku1")
    row = row_of(PackedDataset(tmp_path / "out").info)
    with pytest.raises(UserError, match="tools.timeline"):
        open_dataset(tmp_path / "out", row, row.protocols[0])
    with pytest.raises(UserError, match="--untrimmed"):
        open_dataset(tmp_path / "pku1", PKU1, PKU1.protocols[0], long=True)

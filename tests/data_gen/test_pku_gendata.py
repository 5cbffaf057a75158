import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from data_gen import ntu_gendata
from data_gen.datasets import DATASETS, PKU, ROOT, open_dataset, row_of
from data_gen.packed.reader import PackedDataset
from data_gen.packed.segments import Segment
from data_gen.packed.writer import locked
from data_gen.pku_gendata import convert, main, report, untrimmed_row
from data_gen.raw.normalise import fit_people, normalise
from data_gen.raw.pku_files import parse_video
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import KINECT_V2, NTU_LAYOUT
from tests.helpers import GOLDEN, run_python, video_frames, video_text
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
    assert packed.names.tolist() == sorted(packed.names.tolist())
    assert packed.label.tolist() == [0, 50, 11] * 6 and packed.num_frame.tolist() == [50, 15, 315] * 6
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


def test_the_second_person_is_the_other_half_of_a_line_and_zero_where_absent(raw, tmp_path):
    convert(PKU1, raw, tmp_path / "out")
    packed = PackedDataset(tmp_path / "out")
    assert not packed.recording(0)[:, 1].any() and packed.recording(0)[:, 0].any()  # frames 10 to 60: nobody there
    assert packed.recording(2)[:, 1].any(axis=(1, 2)).all()  # frames 80 to 395: late, so filled


def test_workers_change_nothing(pristine, tmp_path):
    convert(PKU1, pristine, tmp_path / "a", workers=1)
    convert(PKU1, pristine, tmp_path / "b", workers=3)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 9
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.mark.parametrize("variant", ["crlf", "bom", "blanks", "trailing", "tabs"])
def test_layout_does_not_matter(raw, pristine, variant, tmp_path):
    change = {
        "crlf": lambda t: t.replace(b"\n", b"\r\n"),
        "bom": lambda t: b"\xef\xbb\xbf" + t,
        "blanks": lambda t: t.replace(b" ", b"  ").replace(b",", b" , ") + b"\n \n",
        "trailing": lambda t: t.replace(b"\n", b" \n"),
        "tabs": lambda t: t.replace(b" ", b"\t") if b" " in t and b":" not in t else t,
    }[variant]
    for path in raw.rglob("*.txt"):
        path.write_bytes(change(path.read_bytes()))
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
    assert "3 label lines repaired" in printed and all(f"{k}: {v}" in printed for k, v in repaired.items())
    assert (
        "PKU-MMD I: 19 recordings of 51 classes, 1,980 frames" in printed and "(published: 18,841 / 2,704)" in printed
    )
    assert "cross_subject (xsub): 10 train, 9 val" in printed and "4 of 51 classes occur" in printed
    assert "cut from 6 videos" in printed
    assert "xsub lists 3 train, 3 val videos (published: 944 / 132)\n  xview lists 4 train, 2 val videos\n" in printed
    assert "longer than 300 frames: 5 (published: 407)" in printed
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


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--raw", "docs"], "--part"),
        (["--part", "1", "--raw", "README.md"], "README.md"),
        (["--part", "1", "--raw", "nowhere"], "nowhere"),
        (["--part", "2", "--raw", "docs"], "docs/skeleton"),
        (["--part", "2", "--raw", "{raw}"], "{raw}/cross_subject.txt:2: "),
    ],
)
def test_mistakes_are_explained(arguments, message, raw, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert status_of(main, [a.replace("{raw}", str(raw)) for a in arguments]) == 1
    assert message.replace("{raw}", str(raw)) in capsys.readouterr().err


def test_only_one_conversion_at_a_time_and_a_failed_one_leaves_the_earlier_data_set(raw, tmp_path):
    convert(PKU1, raw, tmp_path / "out")
    before = PackedDataset(tmp_path / "out").joints.copy()
    edit_frames(raw, "0003-R", lambda lines: lines[:-1] + ["1 2 3"])
    with pytest.raises(UserError):
        convert(PKU1, raw, tmp_path / "out")
    with locked(tmp_path / "out"), pytest.raises(UserError, match="out"):
        convert(PKU1, raw, tmp_path / "out")
    np.testing.assert_array_equal(PackedDataset(tmp_path / "out").joints, before)


def test_without_flags_it_converts_the_parts_that_are_there_and_the_ntu_program_passes_them_over(pristine, tmp_path):
    for package in ("data_gen", "utils"):
        shutil.copytree(ROOT / package, tmp_path / package)

    def run(program):
        command = [sys.executable, program, "--workers", "1"]
        return subprocess.run(command, cwd=tmp_path / "data_gen", capture_output=True, text=True)

    done = run("pku_gendata.py")
    assert done.returncode == 1 and "pkummd_raw/v1 or " in done.stderr and "Traceback" not in done.stderr
    shutil.copytree(pristine, tmp_path / "data" / "pkummd_raw" / "v1")
    done = run("pku_gendata.py")
    assert done.returncode == 0 and "PKU-MMD I: 18 recordings" in done.stdout and "II" not in done.stdout, done.stderr
    write_part(tmp_path / "data" / "pkummd_raw" / "v2", "pku2")
    done = run("pku_gendata.py")
    assert done.returncode == 0 and "PKU-MMD I: " in done.stdout and "PKU-MMD II: 18 recordings" in done.stdout
    assert "published" not in done.stdout.split("PKU-MMD II")[1]
    assert [PackedDataset(tmp_path / "data" / name).name for name in ("pku1", "pku2")] == ["pku1", "pku2"]
    done = run("ntu_gendata.py")
    assert done.returncode == 1 and "no raw recordings at" in done.stderr and "pku" not in done.stderr


@pytest.mark.slow
def test_a_video_more_takes_no_more_memory(tmp_path):
    def peak(videos):
        raw = tmp_path / str(videos)
        write_part(raw)
        for kind in ("skeleton", "label"):
            for i in range(10, 10 + videos):
                shutil.copy(raw / kind / "0002-L.txt", raw / kind / f"{i:04}-L.txt")
        more = [f"{i:04}-L" for i in range(10, 10 + videos)]
        for protocol in PKU1.protocols:
            write_split(raw / f"{protocol.split_file}.txt", ["0002-L", *more], ["0003-L"])
        program = (
            "import resource, sys\nfrom data_gen.pku_gendata import main\n"
            "main(['--part', '1', '--raw', sys.argv[1], '--out', sys.argv[1] + '/out', '--workers', '1'])\n"
            "print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"
        )
        done = run_python("-c", program, raw)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    assert peak(160) < peak(20) + 16 * 1024  # KiB; the clips of 140 videos are 30 MB


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


@pytest.mark.parametrize(
    "labels, place",
    [
        ("1,10,60,2\n2,50,75,1\n", "line 2"),
        ("1,10,60,2\n2,500,575,1\n", "line 2"),
        ("52,10,60,2\n", "line 1"),
        ("1,10,10,2\n", "line 1"),
    ],
    ids=["overlap", "behind the end", "class", "empty"],
)
def test_wrong_segments_of_whole_videos_are_refused_by_file_and_line(raw, tmp_path, labels, place):
    edit_label(raw, "0003-M", labels)
    with pytest.raises(UserError) as error:
        convert(untrimmed_row(PKU1), raw, tmp_path / "out", untrimmed=True)
    assert f"0003-M.txt: {place}: " in str(error.value) and not (tmp_path / "out").exists()
    info = convert(untrimmed_row(PKU1), raw, tmp_path / "out", skip_bad=True, untrimmed=True)
    assert info["segments"] == 15 + labels.count("\n") - 1 and len(info["skipped"]) == 1


def test_reversed_and_overlong_segments_of_whole_videos_are_repaired(raw, tmp_path):
    edit_label(raw, "0002-L", "1,60,10,2\n51,390,410,1\n")
    info = convert(untrimmed_row(PKU1), raw, tmp_path / "out", untrimmed=True)
    assert len(info["repaired"]) == 2
    assert PackedDataset(tmp_path / "out").segments[0] == [Segment(10, 60, 0), Segment(390, 400, 50)]
    arguments = ["--untrimmed", "--part", "1", "--raw", str(raw), "--out", str(tmp_path / "b"), "--workers", "1"]
    assert status_of(main, arguments) == 0
    assert PackedDataset(tmp_path / "b").name == "pku1_untrimmed"


def test_programs_for_clips_refuse_whole_videos(pristine, tmp_path):
    convert(untrimmed_row(PKU1), pristine, tmp_path / "out", untrimmed=True)
    convert(PKU1, pristine, tmp_path / "pku1")
    row = row_of(PackedDataset(tmp_path / "out").info)
    with pytest.raises(UserError, match="tools.timeline"):
        open_dataset(tmp_path / "out", row, row.protocols[0])
    with pytest.raises(UserError, match="--untrimmed"):
        open_dataset(tmp_path / "pku1", PKU1, PKU1.protocols[0], long=True)

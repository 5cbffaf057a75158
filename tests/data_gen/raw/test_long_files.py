import threading
import time
import tracemalloc

import numpy as np
import pytest

from data_gen.packed.info import DataSetError
from data_gen.raw import long_files
from data_gen.raw.long_files import LongFile
from data_gen.raw.skeleton_file import parse_skeleton
from data_gen.skeletons import SKELETONS
from tests.helpers import moving_body, skeleton_text


def frames_of(count, seed=0, gaps=()):
    frames = moving_body(np.random.default_rng(seed), count)
    for frame in range(count):
        frames[frame] = [] if frame in gaps else frames[frame] + [frames[frame][0] + 1] * (frame % 3)
    return frames


def read(path, **options):
    return np.concatenate(list(LongFile(path, **options).blocks()))


def test_a_skeleton_file_reads_as_a_short_one_does(tmp_path, monkeypatch):
    text = skeleton_text(frames_of(50, gaps=(0, 7, 8, 49)))
    (tmp_path / "a.skeleton").write_bytes(text)
    expected = np.zeros((50, 4, 25, 3))
    expected[:, :3] = parse_skeleton(text)
    for block in (256, 7, 1):
        monkeypatch.setattr(long_files, "BLOCK", block)
        assert np.array_equal(read(tmp_path / "a.skeleton"), expected)
    (tmp_path / "b.skeleton").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n").rstrip())
    assert np.array_equal(read(tmp_path / "b.skeleton"), expected)


@pytest.mark.parametrize("people, coordinates", [(1, 2), (1, 3), (2, 2), (2, 3)])
def test_tables_and_arrays_read_alike(tmp_path, people, coordinates, monkeypatch):
    monkeypatch.setattr(long_files, "BLOCK", 16)
    values = np.random.default_rng(0).normal(size=(40, people, 25, coordinates)).round(4)
    np.save(tmp_path / "a.npy", values)
    np.savetxt(tmp_path / "b.csv", values.reshape(40, -1), "%.4f", ",")
    np.savetxt(tmp_path / "c.csv", values.reshape(40, -1), "%.4f", ",", header="x," * (values[0].size - 1), comments="")
    (tmp_path / "marked.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "b.csv").read_bytes())
    (tmp_path / "capital.CSV").write_bytes((tmp_path / "b.csv").read_bytes())
    for name in ("a.npy", "b.csv", "c.csv", "marked.csv", "capital.CSV"):
        assert np.array_equal(read(tmp_path / name), values), name
    if people == 1:
        np.save(tmp_path / "d.npy", values[:, 0])
        assert np.array_equal(read(tmp_path / "d.npy"), values)


def edited(line, new, frames=20):
    """A recording's text with line `line`, from 1, replaced."""
    lines = skeleton_text(frames_of(frames)).split(b"\n")
    lines[line - 1] = new
    return b"\n".join(lines)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.skeleton", edited(1, b"0"), "a.skeleton:2: text goes on after the last of 0 frames"),
        ("a.skeleton", edited(1, b"x"), "a.skeleton:1: the number of frames should stand here, found 'x'"),
        ("a.skeleton", edited(1, b"21"), "the number of bodies of frame 21 should stand here, found the end"),
        ("a.skeleton", edited(1, b"19"), "text goes on after the last of 19 frames"),
        ("a.skeleton", edited(2, b"31"), "a.skeleton:2: 31 bodies in a frame, more than 30"),
        ("a.skeleton", edited(6, b"1 2 3"), "a.skeleton:6: a joint has 12 values, this line has 3"),
        ("a.skeleton", edited(700, b"1 2 3"), "a.skeleton:700: "),
        ("a.skeleton", edited(2, b"29", 5), "frame 1 is cut short"),
        ("a.skeleton", b"", "the file ends where the number of frames should stand"),
        ("a.csv", b"1,2\n", "a.csv: has 2 columns, 25 joints of kinect_v2 take 2 or 3 each"),
        ("a.csv", b",".join([b"z,y,x"] * 25) + b"\n", "a.csv: its heading has 'z' where x of spine_base is read"),
        ("a.csv", b"x" + b",x" * 74 + b"\n", "a.csv: holds no frames"),
        ("a.csv", (b"1" + b",1" * 74 + b"\n") * 3 + b"1,2\n", "a.csv:4: is not 75 numbers between commas"),
        ("a.csv", b"1" + b",1" * 74 + b"\n" + b"nan" + b",1" * 74 + b"\n", "not a finite number of metres"),
        ("a.csv", b"1" * 70000, "too long a line"),
        ("a.npy", b"junk", "a.npy: cannot be read"),
        ("a.txt", b"1", "a recording is a .csv or .npy or .skeleton file"),
    ],
)
def test_what_is_wrong_is_refused_by_file_and_line(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(DataSetError) as error:
        read(tmp_path / name)
    assert message in str(error.value)


@pytest.mark.parametrize("kind", ["skeleton", "csv"])
def test_whatever_a_text_holds_it_is_read_or_refused(tmp_path, kind):
    rng = np.random.default_rng(0)
    text = skeleton_text(frames_of(6))
    if kind == "csv":
        values = rng.normal(size=(6, 75)).round(3)
        text = "".join(",".join(map(str, row)) + "\n" for row in values.tolist()).encode()
    path, refused = tmp_path / f"a.{kind}", 0
    for _ in range(150):
        changed = bytearray(text)
        for place in rng.integers(len(text), size=rng.integers(1, 4)):
            changed[place] = rng.choice(np.frombuffer(b"\n\r ,0x-e9\x00\xff", np.uint8))
        path.write_bytes(changed[: rng.integers(1, len(text))] if rng.random() < 0.3 else changed)
        try:
            frames = read(path)
            assert np.isfinite(frames).all() and frames.shape[2:] == (25, 3)
        except DataSetError as error:
            assert str(path) in str(error)
            refused += 1
    assert 20 < refused < 150


def test_other_bodies_and_missing_files_are_refused(tmp_path):
    (tmp_path / "a.skeleton").write_bytes(skeleton_text(frames_of(3)))
    with pytest.raises(DataSetError, match="holds joints of kinect_v2, --skeleton says coco"):
        LongFile(tmp_path / "a.skeleton", SKELETONS["coco"])
    np.save(tmp_path / "a.npy", np.zeros((5, 17, 3)))
    with pytest.raises(DataSetError, match=r"has 17 joints, kinect_v2 25: pass --skeleton \(it may be coco\)"):
        LongFile(tmp_path / "a.npy")
    with pytest.raises(DataSetError, match="no such file"):
        LongFile(tmp_path / "b.csv")
    with pytest.raises(DataSetError, match="not a regular file"):
        LongFile(tmp_path)
    with pytest.raises(DataSetError, match="what is followed is a .skeleton or .csv file"):
        LongFile(tmp_path / "a.npy", follow=True)


@pytest.mark.no_cover  # it would take twice as long
def test_more_frames_than_a_clip_may_have_take_little_memory(tmp_path):
    body = skeleton_text(frames_of(1)).split(b"\n", 1)[1]
    with open(tmp_path / "a.skeleton", "wb") as file:
        file.write(b"21000\n")
        for _ in range(21):
            file.write(body * 1000)
    tracemalloc.start()
    frames = sum(len(block) for block in LongFile(tmp_path / "a.skeleton").blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == 21000 and peak < 2**25  # the frames alone take 50 MB, the text 30


@pytest.mark.parametrize("kind", ["skeleton", "csv"])
def test_a_growing_file_is_followed_in_pieces_of_any_size(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(long_files, "INTERVAL", 0.002)
    frames = frames_of(30)
    whole = skeleton_text(frames)
    expected = np.zeros((30, 4, 25, 3))
    expected[:, :3] = parse_skeleton(whole)
    if kind == "csv":
        expected = expected[:, :1].round(4)
        whole = "".join(",".join(f"{v:.4f}" for v in frame.ravel()) + "\n" for frame in expected).encode()
    path = tmp_path / f"a.{kind}"
    path.write_bytes(whole[:5])
    pieces = np.random.default_rng(1).integers(1, 9000, 1000)

    def grow():
        at = 5
        for size in pieces:
            with open(path, "ab") as file:
                file.write(whole[at : at + size])
            at += size
            time.sleep(0.003)
            if at >= len(whole):
                break

    writer = threading.Thread(target=grow)
    writer.start()
    file, found = LongFile(path, follow=True), []
    for block in file.blocks():
        found += list(block)
        if len(found) == 30:
            file.ended = True
    writer.join()
    assert np.array_equal(np.stack(found), expected)


def test_a_file_followed_no_longer_ends_before_half_a_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(long_files, "INTERVAL", 0.002)
    path = tmp_path / "a.skeleton"
    path.write_bytes(skeleton_text(frames_of(10))[:-500])
    file, found = LongFile(path, follow=True), 0
    threading.Timer(0.2, lambda: setattr(file, "ended", True)).start()
    for block in file.blocks():
        found += len(block)
    assert found == 9

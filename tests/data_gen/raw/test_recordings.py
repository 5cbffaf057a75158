import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_gen.datasets import DATASETS
from data_gen.ntu_gendata import convert, main
from data_gen.packed.reader import PackedDataset
from data_gen.raw.recordings import Recording, find_recordings
from data_gen.raw.skeleton_file import MAX_BYTES
from tests.helpers import moving_body, skeleton_text, write_recordings
from tests.programs import status_of
from utils.errors import UserError

NAME = "S001C001P001R001A001"
TEXT = skeleton_text(moving_body(np.random.default_rng(0), 3))


def archive_of(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_entries_of_an_archive_lead_nowhere_else(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    names = [f"S001C001P00{i}R001A001.skeleton" for i in (1, 2, 3)]
    places = [f"../../{names[0]}", f"/{names[1]}", f"C:\\..\\x/../{names[2]}"]
    path = archive_of(inner / "official.zip", dict.fromkeys(places, TEXT))
    convert(DATASETS["demo"], [path], inner / "out")
    assert PackedDataset(inner / "out").names.tolist() == [Path(name).stem for name in names]
    assert {p.name for p in tmp_path.rglob("*") if p.parent != inner / "out"} == {"a", "b", "official.zip", "out"}
    assert not Path("/", names[1]).exists()


def claim_size(path: Path, size: int) -> None:
    """Have the archive of one entry say that the entry unpacks to `size` bytes."""
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[22:26] = content[directory + 24 : directory + 28] = struct.pack("<I", size)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "method, claimed, message",
    [
        (zipfile.ZIP_DEFLATED, None, "larger than 32 MiB"),
        (zipfile.ZIP_DEFLATED, 100, "cannot be read .Bad CRC-32"),
        (zipfile.ZIP_BZIP2, 100, "compressed by another method than deflate"),
        (zipfile.ZIP_LZMA, 100, "compressed by another method than deflate"),
    ],
)
def test_a_zip_bomb_is_refused_before_memory_is_taken(method, claimed, message, tmp_path):
    path = archive_of(tmp_path / "bomb.zip", {f"{NAME}.skeleton": b"0" * (MAX_BYTES + 1)}, method)
    if claimed:
        claim_size(path, claimed)
    recordings, _ = find_recordings([path])
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        recordings[0].read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_damaged_archives_are_refused_by_name(tmp_path, capsys):
    write_recordings(tmp_path / "raw", subjects=(1,), actions=(1,))
    path = archive_of(tmp_path / "official.zip", {p.name: p.read_bytes() for p in (tmp_path / "raw").iterdir()})
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    for at, new in (
        (directory, b"xxxx"),  # no directory
        (directory + 6, b"\xff"),  # a later version of the format
        (directory + 8, b"\x00\x08"),  # names in UTF-8 ...
    ):
        path.write_bytes(content[:at] + new + content[at + len(new) :])
        if new == b"\x00\x08":
            path.write_bytes(path.read_bytes().replace(b"S001", b"S\xff01"))  # ... that are not
        assert status_of(main, ["--dataset", "demo", "--raw", str(path), "--out", str(tmp_path / "out")]) == 1
        assert f"error: {path} is not a zip archive, or a damaged one" in capsys.readouterr().err


def test_what_is_no_regular_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / f"{NAME}.skeleton")
    (tmp_path / "S001C001P001R001A002.skeleton").symlink_to(tmp_path / "nowhere")
    (tmp_path / "S001C001P001R001A003.skeleton").symlink_to(tmp_path / "S001C001P001R001A003.skeleton")
    recordings, _ = find_recordings([tmp_path])
    reasons = ["not a regular file", "No such file", "symbolic links"]
    for recording, reason in zip(recordings, reasons, strict=True):
        with pytest.raises(UserError, match=f"cannot be read .*{reason}"):
            recording.read()
    os.mkfifo(tmp_path / "official.zip")
    with pytest.raises(zipfile.BadZipFile, match="official.zip is not a zip archive.*not a regular file"):
        find_recordings([tmp_path])


def test_links_that_lead_in_circles_end(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / f"{NAME}.skeleton").write_bytes(TEXT)
    for name in ("a", "b", "c"):  # 3^40 ways down
        (tmp_path / "inner" / name).symlink_to(tmp_path)
    recordings, repeated = find_recordings([tmp_path])
    assert [r.stem for r in recordings] == [NAME] and repeated == 0


def test_names_that_cannot_be_printed_are_reported_all_the_same(tmp_path, capfd):
    write_recordings(tmp_path / "raw", subjects=(1, 3), actions=(1,))
    for name in (b"\xff\xfe.skeleton", b"a\nb.skeleton", b"\x1b[2J.skeleton", "٣.skeleton".encode()):
        (tmp_path / "raw" / os.fsdecode(name)).write_bytes(TEXT)
    assert (
        status_of(
            main, ["--dataset", "demo", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--skip-bad"]
        )
        == 0
    )
    said = capfd.readouterr().out
    assert "4 bad recordings skipped" in said and "a\\nb.skeleton': the name is not" in said and "\x1b" not in said
    assert len(json.loads((tmp_path / "out" / "dataset.json").read_text())["skipped"]) == 4


def test_recordings_are_named_by_their_place():
    assert str(Recording(NAME, "raw/x.skeleton")) == "raw/x.skeleton"
    assert str(Recording(NAME, "a.zip", "b/x.skeleton")) == "a.zip:b/x.skeleton"


def test_recordings_without_anybody_are_zeros_with_a_warning(tmp_path, capsys):
    write_recordings(tmp_path / "raw", subjects=(1, 3), actions=(1,), cameras=(1,))
    (tmp_path / "raw" / "S001C001P001R001A002.skeleton").write_bytes(b"3\n0\n0\n0\n")
    assert status_of(main, ["--dataset", "demo", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]) == 0
    assert (
        "warning: 1 recording without a body in any frame, kept as zeros: S001C001P001R001A002"
        in capsys.readouterr().out
    )
    packed = PackedDataset(tmp_path / "out")
    assert packed.recording(1).shape == (3, 2, 25, 3) and not packed.recording(1).any()


def test_an_archive_that_is_replaced_after_it_was_listed_is_refused(tmp_path):
    path = archive_of(tmp_path / "a.zip", {f"{NAME}.skeleton": TEXT})
    (found,), _ = find_recordings([path])
    archive_of(path, {"S001C001P002R001A001.skeleton": TEXT})
    with pytest.raises(UserError, match="the archive was replaced meanwhile"):
        found.read()

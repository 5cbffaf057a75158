"""Mutated files: each is converted, to the right values, or refused with a reason, and nothing else happens."""

import json
import random
import re
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.packed.reader import FRAME_SHAPE, SIDES, DataSetError, PackedDataset
from data_gen.raw.normalise import normalise
from data_gen.raw.number_lines import SkeletonError
from data_gen.raw.skeleton_file import parse_skeleton
from tests import mutations
from tests.helpers import run_python, tiny_dataset, write_recordings
from tests.mutations import HOW, WORDS, Change, apply, skeleton_texts
from tools.benchmark import baselines

pytestmark = pytest.mark.no_cover  # it would take half as long again
SECONDS = 5  # far above what any of these small files takes
TEXTS = skeleton_texts()
deterministic = settings(max_examples=400, derandomize=True, deadline=None, database=None)


def changes(words: tuple[bytes, ...]) -> st.SearchStrategy[list[Change]]:
    part = st.floats(0, 1, exclude_max=True)
    one = st.builds(Change, st.sampled_from(list(HOW)), part, part, st.sampled_from(words))
    return st.lists(one, min_size=1, max_size=6)


def convert_or_refuse(text: bytes) -> np.ndarray | SkeletonError:
    """People of a text, or why it is refused; anything else fails."""
    start = time.process_time()
    with warnings.catch_warnings(), np.errstate(divide="raise", over="raise", invalid="raise"):
        warnings.simplefilter("error")
        try:
            bodies = parse_skeleton(text)
        except SkeletonError as error:
            assert error.reason and (error.line is None or 1 <= error.line <= text.count(b"\n") + 1)
            assert str(error).isprintable() and time.process_time() - start < SECONDS
            return error
        people = normalise(bodies)
    assert time.process_time() - start < SECONDS
    np.testing.assert_array_equal(bodies, baselines.parse(plain_spelling(text)))
    assert people.dtype == np.float32 and people.shape == (len(bodies), *FRAME_SHAPE) and np.isfinite(people).all()
    return people


def plain_spelling(text: bytes) -> str:
    """The same recording in the words that Python knows."""
    plain = text.removeprefix(b"\xef\xbb\xbf").decode("ascii").replace("\r\n", "\n")
    return re.sub(r"-?1\.#\w+|-?nan\(ind\)", "nan", re.sub(r"[\t\r\v\f]", " ", plain))


@deterministic
@given(st.sampled_from(TEXTS), changes(WORDS))
def test_a_mutated_text_is_read_right_or_refused(text, damage):
    convert_or_refuse(apply(text, damage))


@deterministic
@given(st.binary(max_size=300) | st.text(alphabet="0125 \n.-+eEnaif\r\t#", max_size=300).map(str.encode))
def test_raw_bytes_are_read_right_or_refused(text):
    convert_or_refuse(text)


@pytest.mark.parametrize("text", TEXTS)
def test_the_texts_that_are_mutated_are_sound(text):
    assert isinstance(convert_or_refuse(text), np.ndarray)


# ---- packed data sets ------------------------------------------------------------------------------------------------

PACKED_WORDS = (
    *(np.int64(n).tobytes() for n in (-1, 0, 1, 24, 2**31, 2**62, -(2**63), 2**63 - 1)),
    *(np.float32(x).tobytes() for x in (np.nan, np.inf, -np.inf, 3e38)),
    *(b'NaN 1e999 -1 0.5 1e3 true null [] {} "../../x" "\\ud800" / \xff L'.split()),
    *(b"<f8 >f4 >i8 |O <U9 True (0,) (99999999999,) (-1,) ()".split()),
    *(b"[" * 100_000, b"9" * 5000, b"\x02", b"\x00\xff", b"PK\x03\x04"),
    *(b"A\x00\x00\x00", b"/\x00\x00\x00", b"\xff\xff\xff\x7f"),
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[PackedDataset, dict[str, bytes]]:
    """A data set of few frames, all of which are in the sample that opening looks at; its files."""
    packed = tiny_dataset(tmp_path_factory.mktemp("packed"), num_frame=(2, 6))
    assert len(packed.joints) <= 256
    return packed, {path.name: path.read_bytes() for path in sorted(packed.path.iterdir())}


def open_or_refuse(folder) -> PackedDataset | DataSetError:
    """The data set of a folder, or why it is refused; anything else fails."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with warnings.catch_warnings(), np.errstate(divide="raise", over="raise", invalid="raise"):
            warnings.simplefilter("error")
            try:
                packed = PackedDataset(folder)
            except DataSetError as error:
                assert str(folder) in str(error) and str(error).isprintable()
                return error
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
        assert time.process_time() - start < SECONDS
    assert np.isfinite(packed.joints).all() and packed.joints.shape[1:] == FRAME_SHAPE
    assert packed.num_frame.min() > 0 and packed.num_frame.sum() == len(packed.joints)
    assert packed.label.min() >= 0 and packed.label.max() < packed.num_classes < 1000
    assert packed.names.tolist() == sorted(set(packed.names.tolist()))
    assert all(re.fullmatch(r"[\w-]+", name, re.ASCII) for name in packed.names.tolist())
    for protocol in packed.protocols:
        both = np.concatenate([packed.split(protocol, side) for side in SIDES])
        assert len(set(both.tolist())) == len(both) and all(0 <= i < len(packed) for i in both)
    assert all(len(packed.recording(i)) == packed.num_frame[i] for i in range(len(packed)))
    return packed


@settings(deterministic, max_examples=150)
@given(data=st.data(), damage=changes(PACKED_WORDS))
def test_a_mutated_data_set_opens_sound_or_is_refused(packed, data, damage):
    folder, files = packed[0].path, packed[1]
    file = data.draw(st.sampled_from(sorted(files)))
    try:
        (folder / file).write_bytes(apply(files[data.draw(st.sampled_from([file, file, "label.npy"]))], damage))
        open_or_refuse(folder)
    finally:
        (folder / file).write_bytes(files[file])


# ---- in bulk ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_thousand_mutated_files(packed, capsys):
    """Seven minutes on a busy core: 80,000 recordings, 20,000 data sets with a file mutated."""
    rng = random.Random(0)
    folder, files = packed[0].path, packed[1]
    counts = {"converted": 0, "refused": 0, "opened": 0, "not opened": 0}
    for _ in range(80_000):
        result = convert_or_refuse(apply(rng.choice(TEXTS), mutations.draw(rng)))
        counts["refused" if isinstance(result, SkeletonError) else "converted"] += 1
    for _ in range(20_000):
        file = rng.choice(sorted(files))
        (folder / file).write_bytes(apply(files[file], mutations.draw(rng, PACKED_WORDS)))
        counts["not opened" if isinstance(open_or_refuse(folder), DataSetError) else "opened"] += 1
        (folder / file).write_bytes(files[file])
    with capsys.disabled():
        print(counts)
    assert min(counts.values()) > 1000


@pytest.mark.slow
def test_the_command_converts_or_lists_each_of_thousands_of_mutated_files(tmp_path):
    rng = random.Random(1)
    write_recordings(tmp_path / "raw")
    names = {path.stem for path in (tmp_path / "raw").iterdir()}
    for i in range(4000):
        name = f"S001C{1 + i % 3:03d}P{1 + i // 3 % 100:03d}R{2 + i // 300:03d}A001"
        (tmp_path / "raw" / f"{name}.skeleton").write_bytes(apply(rng.choice(TEXTS), mutations.draw(rng)))
        names.add(name)
    command = ["data_gen/ntu_gendata.py", "--dataset", "demo", "--raw", tmp_path / "raw", "--out", tmp_path / "out"]
    run = run_python("-W", "error", *command, "--skip-bad", "--workers", "2")
    assert run.returncode == 0 and not run.stderr, run.stderr
    packed = PackedDataset(tmp_path / "out")
    skipped = json.loads((tmp_path / "out" / "dataset.json").read_text())["skipped"]
    assert np.isfinite(packed.joints).all() and all(skipped.values()) and len(skipped) > 1000
    assert len(packed) + len(skipped) == len(names) == 4024
    refused = {path.split("/")[-1].removesuffix(".skeleton") for path in skipped}
    assert set(packed.names.tolist()) == names - refused

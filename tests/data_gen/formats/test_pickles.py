"""Pickles of plain values and arrays load, whoever wrote them; nothing that a pickle calls is run."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from data_gen.formats.pickles import as_list, load_pickle
from utils.errors import UserError

NAMES = ["S001C001P001R001A002.skeleton", "S001C002P003R001A120.skeleton", "S017C003P040R002A060.skeleton"]
LABELS = [1, 119, 59]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
GENUINE = {
    "tuples": [tuple(NAMES), tuple(LABELS)],
    "arrays": (np.array(NAMES), np.array(LABELS)),
    "bytes, the other byte order": (np.array(NAMES, "S"), np.array(LABELS, ">i4")),
    "objects": (np.array(NAMES, object), np.array(LABELS, object)),
    "numpy's scalars": (list(np.array(NAMES)), [np.int64(1), np.int32(119), np.uint8(59)]),
}


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "train_label.pkl"


def load(path: Path, content: bytes) -> tuple[list, list]:
    path.write_bytes(content)
    names, labels = load_pickle(path)
    return as_list(names), as_list(labels)


def numpy_1(content: bytes) -> bytes:
    """The same pickle with the module names of numpy 1; text tells its length before it, a frame (optional) too."""
    if content[2:3] == b"\x95":
        content = content[:2] + content[11:]
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        content = content.replace(struct.pack("<BB", 0x8C, len(new)) + new, struct.pack("<BB", 0x8C, len(old)) + old)
        content = content.replace(b"c" + new, b"c" + old)
    return content


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", GENUINE)
def test_pickles_of_every_protocol_and_of_both_numpys_load(kind, protocol, path):
    content = pickle.dumps(GENUINE[kind], protocol)
    assert b"numpy._core" not in numpy_1(content)
    assert load(path, content) == load(path, numpy_1(content)) == (NAMES, LABELS)


@pytest.mark.parametrize(
    "content",
    [  # written by Python 2.7's pickle and cPickle: ([text, unicode], [int, long])
        b"((lp0\nS'S001C001P001R001A002.skeleton'\np1\naVS001C002P003R001A120.skeleton\np2\na(lp3\nI1\naL119L\natp4\n.",
        b"\x80\x02]q\x01(U\x1dS001C001P001R001A002.skeletonq\x02X\x1d\x00\x00\x00S001C002P003R001A120.skeletonq\x03e"
        b"]q\x04(K\x01\x8a\x01we\x86q\x05.",
        # an array whose bytes are text
        b"\x80\x02]q\x01(U\x1dS001C001P001R001A002.skeletonq\x02X\x1d\x00\x00\x00S001C002P003R001A120.skeletonq\x03e"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nq\x06U\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x04\x01\x00w\x00tb\x86.",
    ],
)
def test_pickles_of_python_2_load(content, path):
    assert load(path, content) == (NAMES[:2], LABELS[:2])


class Call:
    """Something that a pickle calls when it is loaded."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


CALLS = {
    "posix.system": Call(os.system, "touch ran"),
    "builtin.*eval": Call(eval, "open('ran', 'w').close()"),
    "numpy.memmap": Call(np.memmap, "ran", "u1", "w+", 0, (1,)),
    "system": (np.array([Call(os.system, "touch ran")], object), np.array([0])),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_in_a_pickle_is_not_made(name, protocol, path):
    content = pickle.dumps(CALLS[name], protocol)
    with pytest.raises(UserError, match=f"{path}.*{name}"):
        load(path, content)
    assert not Path("ran").exists()
    pickle.loads(content)
    assert Path("ran").exists(), "the attack itself does not work"


def text(value: str) -> bytes:
    return b"\x8c" + struct.pack("<B", len(value)) + value.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"(Vtouch ran\nios\nsystem\n.",  # INST
        b"\x80\x02cnumpy\nmemmap\n(Vran\nVu1\nVw+\nK\x00K\x01\x85t\x81.",  # NEWOBJ
        b"\x80\x04" + text("os") + b"q\x000" + text("system") + b"q\x010h\x00h\x01\x93" + text("touch ran") + b"\x85R.",
        b"\x80\x04" + text("numpy") + text("dtype.__class__.__subclasses__") + b"\x93\x29R.",
        b"cnumpy\nload\n(Vran\nN\x88tR.",
        b"Pran\n.",  # a persistent id
        b"\x80\x02\x82\x01.",  # a registered extension
    ],
)
def test_other_ways_to_call_something_are_refused(content, path):
    with pytest.raises(UserError, match=str(path)):
        load(path, content)
    assert not Path("ran").exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_truncated_or_missing_pickle_is_refused(protocol, path):
    content = pickle.dumps(GENUINE["arrays"], protocol)
    for length in range(0, len(content), 7):
        with pytest.raises(UserError, match=str(path)):
            load(path, content[:length])
    path.unlink()
    with pytest.raises(UserError, match=f"{path}: no such file"):
        load_pickle(path)

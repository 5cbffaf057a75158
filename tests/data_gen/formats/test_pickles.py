"""Label pickles: genuine ones load, malicious ones run nothing, damaged ones are refused in bounded time and memory."""

import io
import os
import pickle
import struct
import subprocess
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.formats import pickles
from data_gen.formats.pickles import load_labels
from tests.mutations import HOW, Change, apply
from utils.errors import UserError

NAMES = ["S001C001P001R001A002.skeleton", "S001C002P003R001A120.skeleton", "S017C003P040R002A060.skeleton"]
LABELS = [1, 119, 59]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
GENUINE = {
    "lists": (NAMES, LABELS),
    "a list of tuples": [tuple(NAMES), tuple(LABELS)],
    "arrays": (np.array(NAMES), np.array(LABELS)),
    "other types": (np.array(NAMES, "S"), np.array(LABELS, np.uint8)),
    "the other byte order": (np.array(NAMES, ">U40"), np.array(LABELS, ">i4")),
    "objects": (np.array(NAMES, object), np.array(LABELS, object)),
    "numpy's scalars": (list(np.array(NAMES)), [np.int64(1), np.int32(119), np.uint8(59)]),
    "in Fortran's order": (np.asfortranarray(NAMES), np.asfortranarray(LABELS)),
}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "train_label.pkl"


@pytest.fixture
def marker(tmp_path, monkeypatch) -> Path:
    """A file that the attacks make in the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ran"


def load(path: Path, content: bytes):
    path.write_bytes(content)
    return load_labels(path)


def numpy_1(content: bytes) -> bytes:
    """The same pickle with the module names of numpy 1; text tells its length before it, a frame (optional) too."""
    if content[2:3] == b"\x95":
        content = content[:2] + content[11:]
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        content = content.replace(struct.pack("<BB", 0x8C, len(new)) + new, struct.pack("<BB", 0x8C, len(old)) + old)
        content = content.replace(b"c" + new, b"c" + old)
    return content


def text(value: str) -> bytes:
    return b"\x8c" + struct.pack("<B", len(value)) + value.encode()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", GENUINE)
def test_genuine_pickles_of_every_protocol_load(kind, protocol, path):
    for dump in (pickle.dumps, pickle._dumps):  # the pickler in C, and in Python
        content = dump(GENUINE[kind], protocol)
        old = numpy_1(content)
        assert load(path, content) == load(path, old) == (NAMES, LABELS)
        names, labels = load_labels(path)
        assert {type(n) for n in names} == {str} and {type(x) for x in labels} == {int}


def test_numpy_1_names_were_put_there():
    assert b"numpy.core.multiarray" in numpy_1(pickle.dumps(GENUINE["arrays"], 4))
    assert b"numpy._core" not in numpy_1(pickle.dumps(GENUINE["arrays"], 5))


@pytest.mark.parametrize(
    "content",
    [  # written by Python 2.7's pickle and cPickle: ([text, unicode], [int, long])
        b"((lp0\nS'S001C001P001R001A002.skeleton'\np1\naVS001C002P003R001A120.skeleton\np2\na(lp3\nI1\naL119L\natp4\n.",
        b"(]q\x01(U\x1dS001C001P001R001A002.skeletonq\x02X\x1d\x00\x00\x00S001C002P003R001A120.skeletonq\x03e"
        b"]q\x04(K\x01L119L\netq\x05.",
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
    names, labels = pickle.loads(content.replace(b"numpy.core", b"numpy._core"), encoding="latin1")
    assert names == NAMES[:2] and list(labels) == LABELS[:2]


class Call:
    """Something that a pickle calls when it is loaded."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


ARRAYS = [pickle.dumps(GENUINE["arrays"], protocol) for protocol in PROTOCOLS]
SHELL = "touch ran"
CODE = "open('ran', 'w').close()"
CALLS = {
    "os.system": Call(os.system, SHELL),
    "eval": Call(eval, CODE),
    "exec": Call(exec, CODE),
    "subprocess": Call(subprocess.check_call, ["touch", "ran"]),
    "open": Call(open, "ran", "w"),
    "numpy.savetxt": Call(np.savetxt, "ran", [1]),
    "numpy.memmap": Call(np.memmap, "ran", "u1", "w+", 0, (1,)),
    "numpy's tofile": Call(np.ndarray.tofile, np.arange(3), "ran"),
    "nested": Call(getattr, Call(__import__, "os"), "system"),
    "in a list of names": ([Call(os.system, SHELL)], [0]),
    "in an array of objects": (np.array([Call(os.system, SHELL)], object), np.array([0])),
    "a subclass of an array": Call(np._core.multiarray._reconstruct, np.memmap, (0,), b"b"),
}
RAW = {
    "GLOBAL": b"cos\nsystem\n(V" + SHELL.encode() + b"\ntR.",
    "INST": b"(V" + SHELL.encode() + b"\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nV" + SHELL.encode() + b"\no.",
    "NEWOBJ": b"\x80\x02cnumpy\nmemmap\n(Vran\nVu1\nVw+\nK\x00K\x01\x85t\x81.",
    "a STACK_GLOBAL through the memo": b"\x80\x04"
    + text("os")
    + b"q\x000"
    + text("system")
    + b"q\x010h\x00h\x01\x93"
    + text(SHELL)
    + b"\x85R.",
    "a dotted name": b"\x80\x04" + text("numpy") + text("os.system") + b"\x93" + text(SHELL) + b"\x85R.",
    "a dotted name of what is admitted": b"\x80\x04"
    + text("numpy")
    + text("dtype.__class__.__subclasses__")
    + b"\x93\x29R.",
    "Python 2's names": b"c__builtin__\neval\n(V" + CODE.encode() + b"\ntR.",
    "an encoding": b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
    "other codecs": b"c_codecs\nopen\n(Vran\nVw\ntR.",
    "BUILD of what is fetched": b"cnumpy\ndtype\n}Vx\ncos\nsystem\nsb.",
    "BUILD of what is fetched, by a tuple": b"cnumpy\ndtype\n(N}Vx\ncos\nsystem\nstb.",
    "BUILD of a type": b"cnumpy\ndtype\n(Vi8\ntR(K\x03V<\n(cos\nsystem\ntNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
    "calling what is no function": b"cnumpy\nndarray\n(VS001\nK\x01tR.",
    "a persistent id": b"Pran\n.",
    "a persistent id on the stack": b"Vran\nQ.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "a buffer outside": b"\x80\x05\x97\x98.",
    "f2py": b"cnumpy.f2py\ncompile\n(Vx\ntR.",
    "numpy.load": b"cnumpy\nload\n(Vran\nN\x88tR.",
    "numpy's inspection": b"cnumpy.testing._private.utils\nrunstring\n(V" + CODE.encode() + b"\n}tR.",
    "an alias in the encoding's place": b"cnumpy.core.multiarray\nsystem\n(Vran\ntR.",
}


def refused(path: Path, content: bytes, message: str = ": ") -> None:
    """Loading is refused, for a printable reason that names the file, in little time and memory."""
    path.write_bytes(content)
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(UserError, match=message) as error:
        load_labels(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(error.value).startswith(f"{path}: ") and str(error.value).isprintable() and len(str(error.value)) < 500
    assert peak < 2**22 + 100 * len(content) and time.process_time() - start < 20


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("attack", CALLS)
def test_a_call_in_a_pickle_is_not_made(attack, protocol, path, marker):
    content = pickle.dumps(CALLS[attack], protocol)
    refused(path, content, "refused: ")
    assert not marker.exists()
    if attack not in ("nested", "a subclass of an array"):  # which only lead to more
        pickle.loads(content)
        assert marker.exists(), "the attack itself does not work"


@pytest.mark.parametrize("attack", RAW)
def test_a_handwritten_attack_runs_nothing(attack, path, marker):
    refused(path, RAW[attack])
    assert not marker.exists()


@pytest.mark.parametrize(
    "attack", ["GLOBAL", "INST", "OBJ", "NEWOBJ", "a STACK_GLOBAL through the memo", "Python 2's names"]
)
def test_the_handwritten_attacks_work_where_nothing_guards(attack, marker):
    pickle.loads(RAW[attack])
    assert marker.exists()


@pytest.mark.parametrize(
    "attack, message",
    [
        ("GLOBAL", "refused: it asks for 'os.system'"),
        ("INST", "refused: it asks for 'os.system'"),
        ("OBJ", "refused: it asks for 'os.system'"),
        ("a STACK_GLOBAL through the memo", "refused: it asks for 'os.system'"),
        ("a dotted name", "refused: it asks for 'numpy.os.system'"),
        ("Python 2's names", "refused: it asks for '__builtin__.eval'"),
        ("an encoding", "refused: bytes encoded by 'rot13'"),
        ("a persistent id", "unsupported persistent id"),
        ("a registered extension", "unregistered extension"),
    ],
)
def test_the_message_names_what_is_refused(attack, message, path):
    refused(path, RAW[attack], message)


DTYPE = b"cnumpy\ndtype\n(V%s\n\x89\x88tR(K\x03V<\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85Vb\ntR(K\x01%s%s\x89%stb"
BILLION = b"]q\x00" + b"".join(b"(h%ch%ctq%c" % (i, i, i + 1) for i in range(100))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a sound pickle"),
        (b"PK\x03\x04", "not a sound pickle"),
        (b"\xff\xff", "not a sound pickle .KeyError: '255'"),
        (b".", "not a sound pickle"),
        (b"\x80\x09N.", "not a sound pickle .ValueError"),
        (b"(" * 10**5, "not a sound pickle"),
        (b"]" * 10**5 + b"a" * (10**5 - 1) + b".", "not a pair"),  # deep
        (b"]" * 10**5 + b"\x85" * 10**5 + b".", "not a pair"),
        (b"]]" + b"]" * 10**5 + b"a" * 10**5 + b"\x86.", "0 names and 1 labels"),
        (b"]q\x00h\x00a.", "not a pair"),  # a list that holds itself
        (b"]q\x00(h\x00h\x00e.", "name 0 is no text"),
        (BILLION + b".", "name 0 is no text"),
        (b"}" + BILLION.replace(b"]", b"N") + b"K\x01s.", "entries of what is no table"),
        # a hash of 2**100 steps
        (BILLION.replace(b"]q\x00", b"Nq\x00") + b"}h\x64K\x01s.", "a key that is no text"),
        (b"(" + BILLION + b"\x91.", "refused: a set"),
        (b"Nr\xff\xff\xff\x7f.", "not a pair"),  # room for 2**31 objects
        (b"Np2147483647\n.", "not a pair"),
        (b"Np-1\n.", "negative PUT argument"),
        (b"\x8e" + struct.pack("<Q", 2**40) + b"x.", "not a sound pickle"),
        (b"\x96" + struct.pack("<Q", 2**40) + b"x.", "not a sound pickle"),
        (b"\x8d" + struct.pack("<Q", 2**63) + b"x.", "not a sound pickle"),
        (b"B\xff\xff\xff\xffx.", "not a sound pickle"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"N.", "not a pair"),
        (b"\x8b\xff\xff\xff\x7f1.", "not a sound pickle"),
        (b"I" + b"9" * 10**6 + b"\n.", "not a sound pickle .ValueError"),
        (b"Vx\nK\x00\x86.", "the names or labels are no list"),
        (b"].", "not a pair"),
        (b"N.", "not a pair"),
        (b"((Vx\nt(K\x00K\x01tt.", "1 names and 2 labels"),
        (b"((K\x00t(K\x00tt.", "name 0 is no text"),
        (b"((Vx\nt(I01\ntt.", "label 0 is no whole number"),
        (b"((Vx\nt(F1.0\ntt.", "label 0 is no whole number"),
        (b"((Vx\nt(VA\ntt.", "label 0 is no whole number"),
        (b"((Vx\nt(\x8a\xff" + b"\x7f" * 255 + b"tt.", "or a huge one"),
        (b"((Vx\nt" + ARRAY % (b"K\x01\x85", DTYPE % b"f8", b"V" + b"a" * 8 + b"\n") + b"t.", "no whole number"),
        (b"((Vx\nt" + ARRAY % (b"K\x02\x85", DTYPE % b"i8", b"V" + b"a" * 8 + b"\n") + b"t.", "than it claims"),
        (b"((Vx\nt" + ARRAY % (b"I" + b"9" * 99 + b"\n\x85", DTYPE % b"i8", b"Va\n") + b"t.", "than it claims"),
        (b"((Vx\nt" + ARRAY % (b"K\x01K\x01\x86", DTYPE % b"i8", b"V" + b"a" * 8 + b"\n") + b"t.", "one dimension"),
        (b"((Vx\nt" + ARRAY % (b"K\x01\x85", DTYPE % b"U0", b"V\n") + b"t.", "array of type 'U0'"),
        (b"((Vx\nt" + ARRAY % (b"K\x01\x85", DTYPE % b"V8", b"V" + b"a" * 8 + b"\n") + b"t.", "array of type 'V8'"),
        (b"((Vx\nt" + ARRAY % (b"K\x01\x85", DTYPE % b"M8", b"V" + b"a" * 8 + b"\n") + b"t.", "array of type 'M8'"),
        (b"((Vx\nt" + ARRAY % (b"K\x01\x85", DTYPE % b"i3", b"Vabc\n") + b"t.", "array of type 'i3'"),
        (b"((Vx\nt" + ARRAY % (b"K\x01\x85", DTYPE % b"U9999", b"Vabc\n") + b"t.", "array of type 'U9999'"),
        (b"((Vx\nt" + ARRAY % (b"K\x01\x85", DTYPE % b"O8", b"Vabc\n") + b"t.", "than it claims"),  # pointers
        (b"(" + ARRAY % (b"K\x01\x85", DTYPE % b"U1", b"Vaaaa\n") + b"(K\x00tt.", "text beyond ASCII"),
        (b"((Vx\nt" + ARRAY % (b"K\x01\x85", b"Vi8\n", b"V" + b"a" * 8 + b"\n") + b"t.", "has no type"),
        (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"O8" + b"NtR.", "no known type"),
        (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"i8" + b"Vx\ntR.", "than it claims"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\nK\x00\x85Vb\ntR.", "a class of its own"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R.", "not a sound pickle .IndexError"),
    ],
)
def test_other_contents_are_refused(content, message, path):
    refused(path, content, message)


def test_structured_types_are_refused(path):
    refused(path, pickle.dumps((np.zeros(2, [("a", "i4")]), [1, 2])), "refused: ")
    refused(path, pickle.dumps((np.zeros(2, "M8[s]"), [1, 2])), "refused: ")


def test_a_text_that_is_encoded_again_and_again_takes_no_memory(path):
    start = b"c_codecs\nencode\nq\x00(V" + b"x" * 10**6 + b"\nVlatin1\ntq\x01("
    refused(path, start + b"h\x00h\x01R" * 10**5 + b"t.", "a pickle|pair")


def test_what_stands_for_a_name_cannot_be_changed_and_is_gone_after_the_load(path):
    """BUILD sets the state of whatever it is given: of a function, its defaults, for every later load as well."""
    fetched = (b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n")
    fetched += (b"cnumpy.core.multiarray\nscalar\n", b"cnumpy.core.numeric\n_frombuffer\n", b"c_codecs\nencode\n")
    genuine = [pickle.dumps(value, protocol) for value in GENUINE.values() for protocol in PROTOCOLS]
    for fetch in fetched:
        for state in (b"}V__defaults__\n(Vi8\ntsb", b"(N}V__defaults__\n(Vi8\ntstb", b"}Vname\nVos.system\nsb"):
            refused(path, b"(" + fetch + state + b"K\x00t.", "a state for what has none")
        with pytest.raises(UserError, match="name 0 is no text"):  # nor does it reach anything by being one
            load(path, b"((" + fetch + b"t(K\x00tt.")
    assert all(load(path, content) == (NAMES, LABELS) for content in genuine)
    found = [found for _ in range(2) for found in (pickles._Unpickler(io.BytesIO(fetched[0] + b".")).load(),)]
    assert found[0] is not found[1] and type(found[0]) is pickles._Named


def test_numpys_own_functions_are_never_reached(path, monkeypatch):
    for module, name in ((np._core.multiarray, "_reconstruct"), (np._core.multiarray, "scalar")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("was called"))
    monkeypatch.setattr(np._core.numeric, "_frombuffer", lambda *_: pytest.fail("was called"))
    for content in ARRAYS:
        assert load(path, content) == (NAMES, LABELS)


@pytest.mark.parametrize("tiny", [b"(", b"]", b"}", b"N\x94", b"]\x94", b"M\x01\x02", b"\x8c\x01x"])
def test_memory_stays_within_the_multiple_of_the_file_that_is_stated(tiny, path):
    """Of the things that a byte or two makes; the docs say 150 bytes a byte."""
    content = tiny * (10**5 // len(tiny))
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UserError):
        load_labels(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * len(content)


def test_files_that_are_none_or_too_large_are_refused(path, monkeypatch):
    for make, message in ((lambda: None, "no such file"), (path.mkdir, "not a regular file")):
        make()
        with pytest.raises(UserError, match=message):
            load_labels(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(UserError, match="not a regular file"):
        load_labels(path)
    path.unlink()
    monkeypatch.setattr(pickles, "MAX_LABEL_BYTES", 2**20)
    refused(path, b" " * 2**20 + b" ", "larger than 1 MiB")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_truncated_pickle_is_refused(protocol, path):
    content = pickle.dumps(GENUINE["arrays"], protocol)
    for length in range(0, len(content), 7):
        refused(path, content[:length], "not a sound pickle|it asks for '")


WORDS = (
    *(b". ( ) ] } 0 2 1 a e b R t N \x85 \x86 \x87 \x93 \x94 \x81 \x8f \x90 \x91 \x82\x01 Q".split()),
    *(b"cos\nsystem\n", b"ios\nsystem\n", b"Pran\n", b"(Vtouch ran\nt", b"(Vtouch ran\nios\nsystem\n", b"V\\ud800\n"),
    *(b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\xff" * 8, b"r\xff\xff\xff\x7f", b"\x8e", b"h\x00", b"h\x01", b"j"),
    *(b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n", b"c_codecs\nencode\n", b"O8", b"U9", b"U0", b">", b"\n"),
)
SEEDS = [pickle.dumps(value, protocol) for value in GENUINE.values() for protocol in PROTOCOLS] + list(RAW.values())
part = st.floats(0, 1, exclude_max=True)
changes = st.lists(st.builds(Change, st.sampled_from(list(HOW)), part, part, st.sampled_from(WORDS)), max_size=6)
operations = st.lists(st.sampled_from(WORDS) | st.binary(max_size=3), max_size=60).map(b"".join)


@settings(max_examples=600, derandomize=True, deadline=None, database=None)
@given(st.builds(apply, st.sampled_from(SEEDS), changes) | operations)
def test_a_mutated_pickle_is_labels_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "mutated.pkl"
    path.write_bytes(content)
    start = time.process_time()
    try:
        names, labels = load_labels(path)
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert {type(n) for n in names} <= {str} and {type(x) for x in labels} <= {int}
        assert len(names) == len(labels)
    assert time.process_time() - start < 5
    assert not Path("ran").exists()

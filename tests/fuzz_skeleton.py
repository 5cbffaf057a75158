"""A coverage-guided fuzz target for the parser and for packed data sets, run by hand:

    pip install atheris
    python -m tests.fuzz_skeleton CORPUS -max_total_time=600 -max_len=16384 -rss_limit_mb=0

CORPUS is a folder, made if need be and begun with small genuine files; everything behind it is libFuzzer's. (Without
the last one it ends at 2 GiB: instrumented code keeps some kilobytes of each input.) It stops at the first input that
is neither read nor refused and writes it to a file. What it finds becomes a case of the tests in tests/data_gen.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["data_gen"]):
    import data_gen.packed.reader
    import data_gen.raw.normalise
    import data_gen.raw.skeleton_file  # noqa: F401

from tests.data_gen.raw.test_hostile import TEXTS, convert_or_refuse, open_or_refuse
from tests.helpers import tiny_dataset


def main() -> None:
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        packed = tiny_dataset(Path(scratch), subjects=(1, 3), actions=(1,), num_frame=(2, 4))
        files = sorted(packed.path.iterdir())
        genuine = [path.read_bytes() for path in files]
        # The first byte says what the rest is: one of the data set's files, else a recording.
        for kind, content in [*enumerate(genuine), *((255, text) for text in TEXTS)]:
            (corpus / f"genuine_{kind}_{len(content)}").write_bytes(bytes([kind]) + content)

        def one_input(content: bytes) -> None:
            kind = content[0] if content else 255
            if kind >= len(files):
                convert_or_refuse(content[1:])
                return
            files[kind].write_bytes(content[1:])
            try:
                open_or_refuse(packed.path)
            finally:
                files[kind].write_bytes(genuine[kind])

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

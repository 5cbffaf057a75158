"""Write the demo's recordings: simulated people, sensed by three cameras, as NTU `.skeleton` text files.

python data_gen/demo_gendata.py [--out DIR] [--seed N] [--workers N]
python data_gen/demo_gendata.py --long N    N long recordings instead: several actions each, with pauses between them
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from data_gen.datasets import DATA_ROOT
from data_gen.raw import simulation as sim
from data_gen.raw.sensor import make_camera, sense, setup_of, to_camera, to_text, write_performance, write_text
from utils.logs import progress
from utils.options import add_workers_option, make_parser, non_negative_int, positive_int
from utils.processes import map_in_workers, num_cores, run
from utils.text import counted

# Training and val subjects of NTU-60 cross-subject, by turns.
LONG_SUBJECTS = (1, 3, 2, 6, 4, 7, 5, 10, 8, 11, 9, 12, 13, 20)
LONG = 1  # part of the seeds of long recordings alone
LONG_ACTIONS = 8  # of a recording
PAUSE_FRAMES = (20, 91)  # between two actions; a performance has more standing still
AWAY = 0.15  # chance that nobody is seen during a pause
LONG_REPLICATIONS = 100  # numbers above those of the demo's clips: no performance is in both


def generate(out: Path, seed: int = 0, workers: int = 1, subjects: Iterable[int] = sim.SUBJECTS) -> int:
    """Write the recordings of all subjects into the folder `out`. Return their number."""
    out.mkdir(parents=True, exist_ok=True)
    performances = list(itertools.product(subjects, sim.REPLICATIONS, sim.ACTIONS))
    written = map_in_workers(partial(write_performance, out, seed), performances, workers, chunk=4)
    for _ in progress(written, total=len(performances), desc="simulate", unit="performance"):
        pass
    return len(performances) * len(sim.CAMERA_ANGLES)


class Piece(NamedTuple):
    """A part of a long recording: an action, from 1, in its frames `start` to `end`; or a pause (0). Without people,
    nobody is seen."""

    num_frame: int
    people: list[np.ndarray]
    action: int = 0
    start: int = 0
    end: int = 0


def act_out(seed: int, number: int, subject: int, rng: np.random.Generator) -> Iterator[Piece]:
    """Yield the pieces of a recording: a pause before each action, and one after the last."""
    pose = None
    for action in rng.choice(list(sim.ACTIONS), LONG_ACTIONS).tolist():
        replication = LONG_REPLICATIONS * (1 + number) + int(rng.integers(LONG_REPLICATIONS))
        towards = int(rng.choice(sim.REPLICATIONS))
        done = sim.perform(seed, subject, replication, action, towards)
        body = done.people[0]
        yield _pause(body[0] if pose is None else pose, body[0], rng)
        yield Piece(len(body), done.people, action, done.start, done.end)
        pose = body[-1]
    yield _pause(body[-1], body[-1], rng)


def _pause(before: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> Piece:
    """Make a pause: somebody moves from one pose (25, 3) to another, joint by joint, or is out of sight."""
    num_frame = int(rng.integers(*PAUSE_FRAMES))
    if rng.random() < AWAY:
        return Piece(num_frame, [])
    step = np.linspace(0, 1, num_frame)[:, None, None]
    smooth = step * step * (3 - 2 * step)
    return Piece(num_frame, [before + smooth * (after - before)])


def write_long(out: Path, seed: int, number: int) -> list[tuple[str, int, int, str]]:
    """Write a long recording. Return its segments as rows of segments.csv."""
    subject, name = LONG_SUBJECTS[number % len(LONG_SUBJECTS)], f"long_{number:03d}"
    rng = np.random.default_rng([seed, number, LONG])
    camera = make_camera(setup_of(subject), int(rng.choice(list(sim.CAMERA_ANGLES))))
    frames, texts, rows = 0, [], []
    for piece in act_out(seed, number, subject, rng):
        text = "0\n" * piece.num_frame
        if piece.people:
            bodies = [to_camera(body, camera) for body in piece.people]
            text = to_text(sense(bodies, rng)).partition("\n")[2]
        if piece.action:
            label = sim.ACTIONS[piece.action].name
            rows.append((name, frames + piece.start, frames + piece.end, label))
        frames += piece.num_frame
        texts.append(text)
    write_text(out / f"{name}.skeleton", f"{frames}\n{''.join(texts)}")
    return rows


def generate_long(out: Path, count: int, seed: int = 0, workers: int = 1) -> int:
    """Write `count` long recordings and their tables into the folder `out`. Return the number of segments."""
    out.mkdir(parents=True, exist_ok=True)
    write = partial(write_long, out, seed)
    rows = [*itertools.chain.from_iterable(map_in_workers(write, list(range(count)), workers, chunk=1))]
    tables: dict[str, list[tuple]] = {
        "segments.csv": [("name", "start", "end", "label"), *rows],
        "recordings.csv": [
            ("name", "subject", "split:xsub"),
            *((f"long_{n:03d}", LONG_SUBJECTS[n % len(LONG_SUBJECTS)], ("train", "val")[n % 2]) for n in range(count)),
        ],
        "classes.txt": [(action.name,) for action in sim.ACTIONS.values()],
    }
    for file, lines in tables.items():
        (out / file).write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    return len(rows)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    out = "folder to write to (default: data/demo_raw, with --long data/demo_untrimmed_raw)"
    parser.add_argument("--out", type=Path, help=out)
    long = "write N long recordings of several actions each"
    parser.add_argument("--long", type=positive_int, metavar="N", help=long)
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the people and their movements")
    add_workers_option(parser, num_cores())
    args = parser.parse_args(argv)
    folder = args.out or DATA_ROOT / ("demo_untrimmed_raw" if args.long else "demo_raw")
    if args.long:
        segments = generate_long(folder, args.long, args.seed, args.workers)
        print(f"{counted(args.long, 'long recording')} with {counted(segments, 'segment')} in {folder}")
    else:
        print(f"{generate(folder, args.seed, args.workers)} recordings in {folder}")


if __name__ == "__main__":
    run(main)

"""Convert raw NTU RGB+D recordings into packed data sets: each file is read once for all protocols.

python data_gen/ntu_gendata.py                       every data set that lies where the README says
python data_gen/ntu_gendata.py --dataset ntu60 --raw nturgbd_skeletons_s001_to_s017.zip
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from data_gen.datasets import DATASETS, NTU, NTU_NAME, DataSet, RecordingName, parse_name
from data_gen.packed.protocols import derive_splits
from data_gen.packed.writer import packing
from data_gen.raw.conversion import bad_recordings, conversion_parser, count_lines, plan_conversions, warning_lines
from data_gen.raw.recordings import Recording, convert_all, find_recordings
from utils.errors import UserError
from utils.files import read_text
from utils.logs import progress
from utils.processes import run

MISSING_LISTS = (
    "samples_with_missing_skeletons.txt",
    "NTU_RGBD_samples_with_missing_skeletons.txt",
    "NTU_RGBD120_samples_with_missing_skeletons.txt",
)


def convert(
    dataset: DataSet, raw: list[Path], out: Path, missing: Path | None = None, workers: int = 1, skip_bad: bool = False
) -> dict:
    """Convert the recordings under `raw` into the packed data set `out`. Return what dataset.json says. Nothing is
    written if some cannot be read, unless `skip_bad`."""
    recordings, repeated = find_recordings(raw)
    lists = [missing] if missing else find_missing_lists(raw)
    left_out = {name for path in lists for name in re.findall(NTU_NAME, read_text(path))}
    if missing and not left_out:
        raise UserError(f"{missing}: names no recording; it is not a list of missing skeletons")
    names, bad = _parse_names(recordings)
    mine = {recording: name for recording, name in names.items() if dataset.covers(name)}
    chosen = [recording for recording in mine if recording.name not in left_out]
    info = {
        "dataset": dataset.name,
        "title": dataset.title,
        "classes": dataset.classes,
        "made": {"raw": [str(p) for p in raw], "missing_lists": [str(p) for p in lists]},
        "found": len(recordings),
        "found_twice": repeated,
        "of_another_data_set": len(names) - len(mine),
        "on_missing_list": sum(recording.name in left_out for recording in recordings),
    }
    with packing(out, name=dataset.name) as writer:
        bar = progress(chosen, desc="convert", unit="recording")
        for recording, people in zip(bar, convert_all(chosen, workers)):
            if isinstance(people, UserError):
                bad[str(recording)] = str(people)
            elif not bad or skip_bad:
                writer.add(recording.name, mine[recording].label, people)
        if bad and not skip_bad:
            raise bad_recordings(bad)
        if not writer.names:
            raise UserError(f"no recordings of {dataset.title} to convert in {', '.join(map(str, raw))}")
        splits = derive_splits(dataset, [parse_name(name) for name in writer.names])
        return writer.finish(splits, info | {"skipped": dict(sorted(bad.items()))})


def _parse_names(recordings: list[Recording]) -> tuple[dict[Recording, RecordingName], dict[str, str]]:
    """Return the recordings' parsed names, and the reasons against names that no data set has."""
    names, bad = {}, {}
    largest = max(NTU, key=lambda dataset: dataset.classes)
    for recording in recordings:
        try:
            name = parse_name(recording.name)
            if not largest.covers(name):
                raise UserError(f"no data set has setup {name.setup} with action {name.action}")
            names[recording] = name
        except UserError as error:
            bad[str(recording)] = str(error)
    return names, bad


def find_missing_lists(places: Iterable[Path]) -> list[Path]:
    """Find the lists of missing skeletons in, or beside, the given folders and archives."""
    folders = dict.fromkeys(folder for place in places for folder in (place, place.parent))
    return [folder / name for folder in folders for name in MISSING_LISTS if (folder / name).is_file()]


def report(dataset: DataSet, out: Path, info: dict) -> str:
    """Report in a few lines what was converted, beside the published counts."""
    lines = count_lines(dataset, out, info)
    if not info["made"]["missing_lists"] and any(p.published_counts for p in dataset.protocols):
        lines.append("  warning: no list of missing skeletons was found, so nothing is left out; see --missing")
    for key, text in (
        ("on_missing_list", "on the list of missing skeletons, left out"),
        ("of_another_data_set", "of another data set, passed over"),
        ("found_twice", "found a second time, taken from the first place"),
    ):
        if info[key]:
            lines.append(f"  {info[key]:,} {text}")
    return "\n".join(lines + warning_lines(out, info))


def main(argv: list[str] | None = None) -> None:
    parser = conversion_parser(__doc__)
    names = [dataset.name for dataset in NTU]
    parser.add_argument("--dataset", choices=names, help="default: all whose recordings are in data/")
    raw = "folders of .skeleton files, or zip archives"
    parser.add_argument("--raw", nargs="+", type=Path, metavar="PATH", help=raw)
    missing = "list of recordings to leave out (default: the one beside the recordings)"
    parser.add_argument("--missing", type=Path, metavar="FILE", help=missing)
    args = parser.parse_args(argv)
    datasets = [DATASETS[args.dataset]] if args.dataset else NTU
    for dataset, places, out in plan_conversions(datasets, args.raw or [], args.out, "--dataset"):
        print(report(dataset, out, convert(dataset, places, out, args.missing, args.workers, args.skip_bad)))


if __name__ == "__main__":
    run(main)

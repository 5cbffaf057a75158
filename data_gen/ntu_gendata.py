"""Convert raw NTU RGB+D recordings into packed data sets: each file is read once for all protocols.

python data_gen/ntu_gendata.py                       every data set that lies where the README says
python data_gen/ntu_gendata.py --dataset ntu60 --raw nturgbd_skeletons_s001_to_s017.zip
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from tqdm import tqdm

from data_gen.datasets import DATA_ROOT, NTU, DataSet, RecordingName, get_dataset, parse_name
from data_gen.packed.protocols import derive_splits
from data_gen.packed.writer import packing
from data_gen.raw.conversion import bad_recordings, count_lines, parse_arguments, warning_lines
from data_gen.raw.recordings import Recording, convert_all, find_missing_lists, find_recordings, read_missing_list
from utils.errors import UserError
from utils.processes import run


def convert(
    dataset: DataSet, raw: list[Path], out: Path, missing: Path | None = None, workers: int = 1, skip_bad: bool = False
) -> dict:
    """Convert the recordings under `raw` into the packed data set `out`. Return what dataset.json says.

    Raises UserError if some cannot be read (unless `skip_bad`), UserError if none is left or `out` is in use.
    In both cases an earlier data set in `out` stays as it was.
    """
    recordings, repeated = find_recordings(raw)
    lists = [missing] if missing else find_missing_lists(raw)
    left_out = set().union(*(read_missing_list(path) for path in lists))
    if missing and not left_out:
        raise UserError(f"{missing} names no recording: it is not a list of missing skeletons")
    wanted, names, bad, passed_over = _select(dataset, recordings, left_out)
    info = {
        "dataset": dataset.name,
        "title": dataset.title,
        "classes": dataset.classes,
        "made": {"raw": [str(p) for p in raw], "missing_lists": [str(p) for p in lists]},
        "found": len(recordings),
        "found_twice": repeated,
        "of_another_data_set": passed_over,
        "on_missing_list": sum(r.stem in left_out for r in recordings),
    }
    with packing(out, name=dataset.name) as writer:
        progress = tqdm(wanted, desc="convert", unit="recording", disable=not sys.stderr.isatty())
        for recording, people in zip(progress, convert_all(wanted, workers)):
            if isinstance(people, UserError):
                bad[str(recording)] = str(people)
            elif not bad or skip_bad:
                writer.add(recording.stem, names[recording.stem].label, people)
        if bad and not skip_bad:
            raise bad_recordings(bad)
        if not writer.names:
            raise UserError(f"no recordings of {dataset.title} to convert in {', '.join(map(str, raw))}")
        splits = derive_splits(dataset, [names[name] for name in writer.names])
        info |= writer.counts(splits) | {"skipped": dict(sorted(bad.items()))}
        writer.finish(splits, info)
    return info


def _select(
    dataset: DataSet, recordings: list[Recording], left_out: set[str]
) -> tuple[list[Recording], dict[str, RecordingName], dict[str, str], int]:
    """Choose the recordings to read. Return them, their parsed names, the reasons against bad names, and the number of
    recordings of other data sets."""
    wanted: list[Recording] = []
    names: dict[str, RecordingName] = {}
    bad: dict[str, str] = {}
    passed_over = 0
    most = max(NTU, key=lambda d: d.classes)
    for recording in recordings:
        try:
            name = parse_name(recording.stem)
        except UserError as error:
            bad[str(recording)] = str(error)
            continue
        if not most.covers(name):
            bad[str(recording)] = f"no data set has setup {name.setup} with action {name.action}"
        elif not dataset.covers(name):
            passed_over += 1
        elif recording.stem not in left_out:
            wanted.append(recording)
            names[recording.stem] = name
    return wanted, names, bad, passed_over


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
    lines += warning_lines(out, info)
    return "\n".join(lines)


def _plan(args: argparse.Namespace) -> list[tuple[DataSet, list[Path], Path]]:
    """List what to convert: (data set, raw places, output folder). Raises ValueError, FileNotFoundError."""
    if args.raw and not args.dataset:
        raise UserError("--raw needs --dataset, to say what the recordings are")
    datasets = [get_dataset(args.dataset)] if args.dataset else list(NTU)
    plan = []
    for dataset in datasets:
        places = [DATA_ROOT / place for place in dataset.raw]
        raw = args.raw or ([p for p in places if p.is_dir()] if places[0].is_dir() else [])
        if raw:
            plan.append((dataset, raw, args.out or DATA_ROOT / dataset.name))
        elif args.dataset:
            raise UserError(f"no raw recordings at {places[0]}; name their place with --raw")
    if not plan:
        looked = ", ".join(str(DATA_ROOT / d.raw[0]) for d in datasets)
        raise UserError(f"no raw recordings at {looked}; put them there or use --dataset and --raw")
    if args.out and len(plan) > 1:
        raise UserError("--out needs --dataset: several data sets cannot share one folder")
    return plan


def _convert_planned(args: argparse.Namespace) -> Iterator[str]:
    for dataset, raw, out in _plan(args):
        yield report(dataset, out, convert(dataset, raw, out, args.missing, args.workers, args.skip_bad))


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    all_there = "default: all whose recordings are in data/"
    parser.add_argument("--dataset", choices=[d.name for d in NTU], help=all_there)
    raw = "folders of .skeleton files, or zip archives"
    parser.add_argument("--raw", nargs="+", type=Path, metavar="PATH", help=raw)
    parser.add_argument("--out", type=Path, help="folder of the packed data set (default: data/DATASET)")
    missing = "list of recordings to leave out (default: the one beside the recordings)"
    parser.add_argument("--missing", type=Path, metavar="FILE", help=missing)
    for report in _convert_planned(parse_arguments(parser, argv)):
        print(report)


if __name__ == "__main__":
    run(main)

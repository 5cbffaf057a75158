"""Convert PKU-MMD's videos into packed data sets of clips: each video is read once for all protocols.

python data_gen/pku_gendata.py                       the parts that lie where the README says
python data_gen/pku_gendata.py --part 1 --raw DIR    the folder that holds skeleton/ and label/
python data_gen/pku_gendata.py --untrimmed           whole videos with their segments: data/pku1_untrimmed and so on
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from data_gen.datasets import PKU, UNTRIMMED, DataSet
from data_gen.packed.reader import SPLITS
from data_gen.packed.writer import by_split, packing
from data_gen.raw.conversion import (
    bad_recordings,
    conversion_parser,
    count_lines,
    in_brackets,
    plan_conversions,
    reason_lines,
    warning_lines,
)
from data_gen.raw.pku_files import SUFFIX, find_split, read_split, read_video
from utils.errors import UserError
from utils.logs import progress
from utils.processes import map_in_workers, run
from utils.text import counted, first_names

LONG = 300  # frames, which related projects keep of a clip
_WHAT = "part"


def convert(
    dataset: DataSet, raw: Path, out: Path, workers: int = 1, skip_bad: bool = False, untrimmed: bool = False
) -> dict:
    """Convert the videos under `raw` into the packed data set `out`. Return what dataset.json says. Nothing is written
    if some files or lines cannot be used, unless `skip_bad`. With `untrimmed`, recordings are whole videos, as
    recorded, with segments, instead of normalised clips."""
    stems = _stems(raw / "skeleton") | _stems(raw / "label")
    files = {p.name: read_split(find_split(raw, p.split_file), dataset.video) for p in dataset.protocols}
    bad = {place: reason for file in files.values() for place, reason in file.bad.items()}
    info = {
        "dataset": dataset.name,
        "title": dataset.title,
        "classes": dataset.classes,
        **({"class_names": list(dataset.class_names)} if untrimmed else {}),
        "made": {"raw": [str(raw)], "split_files": {p: str(file.path) for p, file in files.items()}},
        "videos_listed": {p: {s: list(file.split.values()).count(s) for s in SPLITS} for p, file in files.items()},
        "in_no_split": sorted(stems.difference(*(file.split for file in files.values()))),
    }
    videos = sorted({name for file in files.values() for name, split in file.split.items() if split})
    read = partial(read_video, raw=raw, classes=dataset.classes, untrimmed=untrimmed)
    repaired: dict[str, str] = {}
    labels: set[int] = set()
    with packing(out, name=dataset.name) as writer:
        parts = map_in_workers(read, videos, workers, chunk=1)
        for video in progress(parts, total=len(videos), desc="convert", unit="video"):
            bad |= video.bad
            repaired |= video.repaired
            labels |= {segment.label for segment in video.segments}
            if bad and not skip_bad:
                continue
            for name, label, people in video.clips:
                writer.add(name, label, people)
            if video.people is not None:
                writer.add_long(video.name, video.people, video.segments)
        if bad and not skip_bad:
            raise bad_recordings(bad, _WHAT)
        if not writer.names:
            raise UserError(f"no {'videos' if untrimmed else 'clips'} of {dataset.title} to convert in {raw}")
        splits = {p: by_split(file.split.get(_video_of(name)) for name in writer.names) for p, file in files.items()}
        info |= {
            "videos": len({_video_of(name) for name in writer.names}),
            "classes_found": len(labels),
            f"longer_than_{LONG}": sum(n > LONG for n in writer.num_frame),
            "repaired": repaired,
            "skipped": dict(sorted(bad.items())),
        }
        return writer.finish(splits, info)


def untrimmed_row(dataset: DataSet) -> DataSet:
    """Make the row of a part's whole videos."""
    protocols = tuple(replace(p, published_counts=p.published_videos) for p in dataset.protocols)
    name, title = dataset.name + UNTRIMMED, f"{dataset.title}, untrimmed"
    return replace(dataset, name=name, title=title, protocols=protocols, published_long=None)


def _stems(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --raw is the one that holds skeleton and label")
    return {p.stem for p in folder.iterdir() if p.suffix == SUFFIX and not p.name.startswith(".")}


def _video_of(clip: str) -> str:
    return clip.split("_")[0]


def report(dataset: DataSet, out: Path, info: dict) -> str:
    """Report in a few lines what was converted, beside the published counts."""
    lines = count_lines(dataset, out, info)
    if "segments" in info:
        lines.append(f"  whole videos with {counted(info['segments'], 'segment')}")
    else:
        lines.append(f"  cut from {counted(info['videos'], 'video')}")
    for name, counts in info["videos_listed"].items():
        line = f"  {name} lists {counts['train']:,} train, {counts['val']:,} val videos"
        lines.append(line + in_brackets(dataset.protocol(name).published_videos))
    published = in_brackets((dataset.published_long,) if dataset.published_long else None)
    lines.append(f"  longer than {LONG} frames: {info[f'longer_than_{LONG}']:,}{published}")
    lines.append(f"  {info['classes_found']} of {dataset.classes} classes occur")
    if names := info["in_no_split"]:
        lines.append(f"  {counted(len(names), 'video')} in no split, passed over: {first_names(names)}")
    if info["repaired"]:
        lines.append(f"  warning: {counted(len(info['repaired']), 'label line')} repaired:")
        lines += reason_lines(info["repaired"])
    return "\n".join(lines + warning_lines(out, info, _WHAT))


def main(argv: list[str] | None = None) -> None:
    parser = conversion_parser(__doc__)
    part = "part of PKU-MMD (default: all whose videos are in data/)"
    parser.add_argument("--part", type=int, choices=(1, 2), help=part)
    untrimmed = "keep whole videos, with their segments (docs/detection.md)"
    parser.add_argument("--untrimmed", action="store_true", help=untrimmed)
    raw = "folder that holds skeleton/ and label/"
    parser.add_argument("--raw", nargs=1, type=Path, metavar="DIR", help=raw)
    args = parser.parse_args(argv)
    datasets = [PKU[args.part - 1]] if args.part else list(PKU)
    if args.untrimmed:
        datasets = [untrimmed_row(dataset) for dataset in datasets]
    for dataset, places, out in plan_conversions(datasets, args.raw or [], args.out, "--part"):
        print(report(dataset, out, convert(dataset, places[0], out, args.workers, args.skip_bad, args.untrimmed)))


if __name__ == "__main__":
    run(main)

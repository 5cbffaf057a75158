"""Draw a recording as the model sees it: the whole clip, its bones and motion, and a training step's four views."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from data_gen.packed.reader import INFO, PackedDataset
from data_gen.raw.recordings import read_one
from feeder.augment import make_view
from feeder.clips import NUM_FRAMES, ClipDataset, ResampleClip
from feeder.modalities import PUBLISHED, derive
from models.checkpoints import RUNS
from tools.figures import style
from tools.figures.inputs import names_for, plot_path
from tools.figures.style import StickFigure, project, set_view
from utils.errors import UserError
from utils.files import atomic_write
from utils.text import counted

VIEWS = 4
EVERY = 2  # the animation shows every second frame of a clip
SPEED = 10  # frames per second
SHEET = 6  # frames per row of the contact sheet
SIGNS = "a colour for each limb;\nthe second person dashed;\n×: masked joint, set to zero"


@dataclass(frozen=True)
class Panel:
    """A clip to draw: people (T, M, V, C), pale if `vectors` (T, M, V, C) from their joints are drawn; `hidden` joints,
    bool (V,), are crosses."""

    title: str
    sticks: StickFigure
    frames: np.ndarray
    vectors: np.ndarray | None = None
    hidden: np.ndarray | None = None

    @cached_property
    def points(self) -> np.ndarray:
        """Where the clip lies in the plot: (N, 2)."""
        people = self.sticks.people
        points = project(self.frames[:, people]).reshape(-1, 2)
        if self.vectors is None:
            return points
        ends = project((self.frames + self.vectors)[:, people]).reshape(-1, 2)
        if points.any():  # motion: a jump of the sensor would leave no room for the person
            ends = np.quantile(ends, (0.01, 0.99), axis=0)
        return np.concatenate((points, ends))

    def draw(self, axes: Axes, t: int) -> None:
        """Draw frame t."""
        set_view(axes, self.points)
        self.sticks.draw(axes, self.frames[t], None if self.vectors is None else self.vectors[t], self.hidden)


def panels_of(source: ClipDataset, seed: int) -> list[Panel]:
    """Make the panels of the only recording of the source: its modalities and views."""
    skeleton = source.layout.skeleton
    clips = derive(ResampleClip()(source.windows(slice(1))), PUBLISHED, torch.tensor(skeleton.parents))
    joint, bone, motion = (clip[0].numpy() for clip in clips.values())
    sticks = StickFigure(skeleton, joint)
    if not sticks.people:
        raise UserError("the recording shows nobody: all of its joints are zero")
    # Motion is enlarged so that the quickest joint of a usual frame moves a third of the body's height.
    quickest = np.median(np.linalg.norm(motion[:-1], axis=-1).max((1, 2)))
    factor = max(1, round(0.33 * float(np.ptp(joint[:, sticks.people[0], :, 1])) / max(quickest, 1e-3)))
    panels = [
        Panel(f"joint\nwhole clip,\n{counted(int(source.num_frame[0]), 'frame')}", sticks, joint),
        Panel("bone\njoint minus\nparent", sticks, np.zeros_like(bone), bone),
        Panel(f"motion\nto the next\nframe, ×{factor}", sticks, joint, factor * motion),
    ]
    windows, random = source.views(torch.arange(1), VIEWS, seed, 0)
    *augmentations, resample = make_view("published", source.layout).transforms
    for augmentation in augmentations:
        windows = augmentation(windows, random)
    maps = windows.joint_map
    assert maps is not None  # one of the augmentations made it
    masked, identity = (maps == 0).all(-1).all(-1), torch.eye(maps.shape[-1])
    counts = (maps != identity).any(-1).any(-1).sum(1).tolist()
    unmasked = torch.where(masked[..., None, None], identity, maps)  # crosses are where joints were
    views, first, length = resample(replace(windows, joint_map=unmasked)), windows.first - source.first, windows.length
    for i, count in enumerate(counts):
        kind = "masked ×" if masked[i].any() else "sheared" if count == len(masked[i]) else "mapped"
        title = f"view {i + 1}\n{count} joints {kind}\nframes {first[i] + 1}–{first[i] + length[i]}"
        panels.append(Panel(title, sticks, views[i].numpy(), hidden=masked[i].numpy()))
    return panels


def draw_sheet(panels: list[Panel], title: str) -> Figure:
    """Draw a row of frames for each panel."""
    figure = style.new_figure(0.85 * len(panels) + 0.4)
    grid = figure.subplots(len(panels), SHEET + 1, width_ratios=[1.7] + [1] * SHEET)
    figure.suptitle(title, fontsize=9)
    for row, panel in zip(grid, panels):
        row[0].axis("off")
        row[0].text(0, 0.5, panel.title, va="center", transform=row[0].transAxes)
        for axes, t in zip(row[1:], np.linspace(0, NUM_FRAMES - 1, SHEET).round().astype(int)):
            panel.draw(axes, int(t))
            axes.set_title(f"frame {t + 1}" if panel is panels[0] else "")
    return figure


def animate(panels: list[Panel], caption: str, path: Path) -> None:
    """Write a GIF of the panels side by side, whole or not at all."""
    images = []
    for t in range(0, NUM_FRAMES, EVERY):
        figure = Figure((style.WIDTH, 3.8), dpi=160)  # a constrained layout would take longer than drawing
        figure.subplots_adjust(0.01, 0.02, 0.99, 0.86, 0.08, 0.42)
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(2, 4, place + 1 + (place > 2))
            axes.set(title=panel.title, anchor="N")
            panel.draw(axes, t)
        figure.text(0.755, 0.98, caption, va="top", weight="bold", fontsize=6.5)
        figure.text(0.755, 0.86, f"{SIGNS}\n\nframe {t + 1} of {NUM_FRAMES}", va="top", fontsize=6.5)
        figure.savefig(buffer := io.BytesIO(), format="png")
        images.append(Image.open(buffer).convert("RGB"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        images[0].save(partial, "gif", save_all=True, append_images=images[1:], duration=1000 / SPEED, loop=0)
    print(path)


def open_recording(
    place: Path, name: str | None, skeleton: str | None = None, class_names: Path | None = None
) -> tuple[ClipDataset, str, str]:
    """Open the recording called `name` in a packed data set, folder, archive or file. Return a source of it alone, its
    name, and that of its class, '' if unknown."""
    if not (place / INFO).is_file():
        name, frames, layout = read_one(place, name, skeleton)
        return ClipDataset(torch.from_numpy(frames), np.array([len(frames)]), np.array([-1]), layout=layout), name, ""
    packed = PackedDataset(place)
    indices = np.flatnonzero(packed.names == name)
    if not len(indices):
        problem = f"--name {name}: no such recording in {place}" if name else f"{place}: choose a recording by --name"
        raise UserError(f"{problem}; the first is {packed.names[0]}")
    source = ClipDataset.of_dataset(packed, indices, torch.device("cpu"))
    return source, str(packed.names[indices[0]]), names_for(packed, class_names)[packed.label[indices[0]]]


def plot_skeleton(
    source: Path, name: str | None, skeleton: str | None, seed: int, class_names: Path | None, out: Path | None
) -> None:
    """Write the animation, and the contact sheet beside it."""
    clips, name, action = open_recording(source, name, skeleton, class_names)
    path = plot_path(out, RUNS, name, suffix=".gif")
    panels = panels_of(clips, seed)
    figure = draw_sheet(panels, f"{name}: {action}" if action else name)
    style.publish(figure, path.with_suffix(".png"), RUNS / "figures")
    animate(panels, f"{name}\n{action}", path)

"""Draw a recording as the model sees it: the whole clip, its bones and motion, and a training step's four views."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from data_gen.packed.atomic import atomic_write, check_replaceable
from data_gen.packed.words import counted
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from data_gen.packed.reader import INFO, PackedDataset
from feeder.augment import training_view
from feeder.clips import NUM_FRAMES, ClipBatch, ClipDataset, ResampleClip, evaluation_view
from feeder.modalities import ModalityTokens
from tools.figures import people, style
from tools.figures.encoded import class_name, find_name, names_for, plot_path
from tools.inference.recordings import read_one
from tools.utils.errors import UserError
from tools.utils.options import RUNS

VIEWS = 4
EVERY = 2  # the animation shows every second frame of a clip
SPEED = 10  # frames per second
ANIMATION_DPI = 160
SHEET = 6  # frames per row of the contact sheet


@dataclass(frozen=True)
class Panel:
    """A clip to draw: `paint(axes, t)` draws frame t; `seen` (..., 2) are all points that it may cover."""

    title: str
    paint: Callable[[Axes, int], None]
    seen: np.ndarray


def panels_of(source: ClipDataset, seed: int) -> list[Panel]:
    """Make the panels of the only recording of the source: its modalities and views. Raises UserError if it shows
    nobody."""
    whole, derive = evaluation_view(source.clips(slice(0, 1))), ModalityTokens(source.layout).derive
    sticks = people.StickFigure(source.layout.skeleton)
    who = people.present(whole[0].numpy())
    if not who:
        raise UserError("the recording shows nobody: all of its joints are zero")
    return [
        _joints(whole[0], who, sticks, f"joint\nwhole clip,\n{counted(int(source.num_frame[0]), 'frame')}"),
        _bones(derive(whole, "bone")[0], who, sticks),
        _motion(whole[0], derive(whole, "motion")[0], who, sticks),
        *_views(source.views(torch.arange(1), VIEWS, seed, 0), who, sticks),
    ]


def _joints(
    clip: Tensor,
    who: list[int],
    sticks: people.StickFigure,
    title: str,
    hidden: np.ndarray | None = None,
    ghost: Tensor | None = None,
) -> Panel:
    """Make the panel of the joints of a clip (T, M, V, C). Hidden joints are drawn where `ghost` has them."""
    frames = clip.numpy()
    if hidden is not None and ghost is not None:
        frames = np.where(hidden[:, None], ghost.numpy(), frames)

    def paint(axes: Axes, t: int) -> None:
        sticks.draw_frame(axes, frames[t], who, hidden=hidden)

    return Panel(title, paint, people.project(frames[:, who]))


def _bones(bone: Tensor, who: list[int], sticks: people.StickFigure) -> Panel:
    bones = bone.numpy()
    origin = np.zeros_like(bones[0])

    def paint(axes: Axes, t: int) -> None:
        sticks.draw_vectors(axes, origin, bones[t], who)

    return Panel("bone\njoint minus\nparent", paint, people.project(bones[:, who]))


def _motion(clip: Tensor, change: Tensor, who: list[int], sticks: people.StickFigure) -> Panel:
    frames, motion = clip.numpy(), change.numpy()
    # Enlarged so that the quickest joint of a usual frame moves a third of the body's height.
    quick = np.median(np.linalg.norm(motion[:-1, who], axis=-1).max((1, 2)))
    times = max(1, round(0.33 * float(np.ptp(frames[:, who[0], :, 1])) / max(quick, 1e-3)))
    pale = ["#BBBBBB"]

    def paint(axes: Axes, t: int) -> None:
        sticks.draw_frame(axes, frames[t], who, colours=pale)
        sticks.draw_vectors(axes, frames[t], times * motion[t], who)

    ends = people.project(frames[:, who] + times * motion[:, who]).reshape(-1, 2)
    usual = np.quantile(ends, (0.01, 0.99), axis=0)  # a jump of the sensor would leave no room for the person
    seen = np.concatenate((people.project(frames[:, who]).reshape(-1, 2), usual))
    return Panel(f"motion\nto the next\nframe, ×{times}", paint, seen)


def _views(clips: ClipBatch, who: list[int], sticks: people.StickFigure) -> list[Panel]:
    """Make the panels of training views; their titles tell the augmentation and the frames."""
    cut, drawn = clips, clips
    for transform in training_view().transforms:
        cut = drawn if isinstance(transform, ResampleClip) else cut
        drawn = transform(drawn)
    assert cut.joint_map is not None  # one of the transforms gave it
    panels = []
    ghosts = ResampleClip()(replace(cut, joint_map=None)).values
    for i, view in enumerate(drawn.values):
        first, length = int(cut.first[i] - clips.first[i]), int(cut.length[i])
        kind, hidden = describe_map(cut.joint_map[i])
        title = f"view {i + 1}\n{kind}\nframes {first + 1}–{first + length}"
        panels.append(_joints(view, who, sticks, title, hidden if hidden.any() else None, ghosts[i]))
    return panels


def describe_map(joint_map: Tensor) -> tuple[str, np.ndarray]:
    """Describe what linear maps (V, C, C) do to the joints. Return also which joints become zero, bool (V,)."""
    hidden = (joint_map == 0).all((1, 2)).numpy()
    kept = int((joint_map == torch.eye(joint_map.shape[-1])).all((1, 2)).sum())
    if hidden.any():
        return f"{hidden.sum()} masked joints ×", hidden
    if kept == 0:
        return "all joints sheared", hidden
    return f"{counted(len(joint_map) - kept, 'joint')} mapped", hidden


def animate(panels: list[Panel], name: str, coordinates: int, path: Path) -> int:
    """Write a GIF of the panels side by side, whole or not at all. Return the number of its frames."""
    figure = style.new_figure(3.8)
    figure.set_dpi(ANIMATION_DPI)
    grid = figure.subplots(2, (len(panels) + 1) // 2, squeeze=False)
    note_at = grid[0, -1]
    places = [axes for axes in grid.flat if axes is not note_at]
    for axes, panel in zip(places, panels):
        people.set_view(axes, panel.seen)
        axes.set_title(panel.title)
    note = _explain(note_at, name, coordinates)
    note.set_text(f"frame {NUM_FRAMES} of {NUM_FRAMES}")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the panels stay where they are, which need not be found anew for each frame
    times = range(0, NUM_FRAMES, EVERY)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = []
    for t in times:
        for axes, panel in zip(places, panels):
            _paint(axes, panel, t)
        note.set_text(f"frame {t + 1} of {NUM_FRAMES}")
        figure.savefig(values := io.BytesIO(), format="rgba")
        size = figure.canvas.get_width_height()
        drawn.append(Image.frombytes("RGBA", size, values.getvalue()).convert("RGB"))
    timing = {"duration": round(1000 / SPEED), "loop": 0}
    with atomic_write(path) as partial:
        drawn[0].save(partial, format="gif", save_all=True, append_images=drawn[1:], **timing)
    return len(times)


def _explain(axes: Axes, name: str, coordinates: int) -> Text:
    """Explain axes and signs in an empty panel. Return the text that tells the frame."""
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.text(0, 0.98, name, va="top", weight="bold", fontsize=8)
    signs = "a colour for each limb;\nthe second person dashed;\n×: masked joint, set to zero"
    axes.text(0, 0.72, signs, va="top", fontsize=7)
    at, length = 0.05, 0.16
    start = at + length * (coordinates == 2)  # an image's y points downwards
    for label, (x, y) in zip("xyz", length * people.project(np.eye(coordinates))):
        axes.annotate("", (at + x, start + y), (at, start), arrowprops={"arrowstyle": "->", "linewidth": 0.9})
        axes.text(at + 1.25 * x, start + 1.25 * y, label, ha="center", va="center")
    return axes.text(0.45, 0.1, "")


def _paint(axes: Axes, panel: Panel, t: int) -> None:
    """Draw frame t in place of the one before; clearing the axes would take longer than drawing."""
    for artist in list(axes.collections):
        artist.remove()
    panel.paint(axes, t)


def sheet(panels: list[Panel], name: str) -> Figure:
    """Draw a row of frames for each panel."""
    figure = style.new_figure(0.85 * len(panels) + 0.4)
    grid = figure.subplots(len(panels), SHEET + 1, width_ratios=[1.7] + [1] * SHEET)
    times = np.linspace(0, NUM_FRAMES - 1, SHEET).round().astype(int)
    figure.suptitle(name, fontsize=9)
    for row, panel in zip(grid, panels):
        row[0].axis("off")
        row[0].text(0, 0.5, panel.title, va="center", transform=row[0].transAxes)
        for axes, t in zip(row[1:], times):
            panel.paint(axes, int(t))
            people.set_view(axes, panel.seen)
            axes.set_title(f"frame {t + 1}" if panel is panels[0] else "")
    return figure


def open_recording(args: argparse.Namespace) -> tuple[ClipDataset, str, str]:
    """Open the chosen recording. Return a source of it alone, its name, and its class, '' if unknown. Raises
    UserError."""
    path, cpu = args.source, torch.device("cpu")
    if not (path / INFO).is_file():
        name, frames, layout = read_one(path, args.name, args.skeleton)
        length = np.array([len(frames)])
        return ClipDataset(torch.from_numpy(frames), length, np.array([-1]), layout=layout), name, ""
    packed = PackedDataset(path)
    if args.name is None:
        raise UserError(f"{path} has {len(packed)} recordings: choose one by --name, such as {packed.names[0]}")
    index = find_name(packed, args.name, "--name")
    names = names_for(packed, args.class_names)
    source = ClipDataset.of_dataset(packed, np.array([index]), cpu)
    return source, args.name, class_name(names, int(packed.label[index]))


def main(args: argparse.Namespace) -> None:
    """Write the animation, and the contact sheet beside it. Raises UserError."""
    source, name, action = open_recording(args)
    out = plot_path(args.out, RUNS, f"{name}.gif")
    picture, caption = out.with_suffix(".png"), f"{name}\n{action}"
    check_replaceable(picture)
    panels = panels_of(source, args.seed)
    figure = sheet(panels, caption.strip().replace("\n", ": "))
    style.publish(figure, picture, RUNS / "figures", f"skeleton/{name}")
    frames = animate(panels, caption, source.layout.coordinates, out)
    print(f"{name}: {counted(frames, 'frame')} in {out}, a sheet of some in {picture}")

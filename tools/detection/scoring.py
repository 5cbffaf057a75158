"""Detect actions in long recordings: score windows, average the scores of frames, and find segments.

Windows are scored by a classifier of clips, by the nearest clips of a gallery, or by a detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_gen.datasets import class_label
from data_gen.skeletons import FrameLayout
from feeder.clips import resample
from feeder.windows import normalise_window, starts
from tools.detection.detector import Detector
from utils.errors import UserError

if TYPE_CHECKING:
    from tools.evaluation.classifier import SavedClassifier
    from tools.inference.gallery import Gallery

BATCH = 64  # windows


class Detection(NamedTuple):
    """A detected action: frames [start, end), class, and the mean score of the frames that have this class."""

    start: int
    end: int
    label: int
    confidence: float


@dataclass(frozen=True)
class Scorer:
    """Detect actions in long recordings.

    score: resampled windows (B, 64, M, V, C) → scores (B, 64, classes) of frames, or (B, 1, classes) of whole windows
    classes: their names. layout: what a window's frame holds
    """

    score: Callable[[Tensor], Tensor]
    classes: list[str]
    layout: FrameLayout
    device: torch.device

    def detect(self, bodies: np.ndarray, window: int, stride: int, threshold: float, shortest: int) -> list[Detection]:
        """Find the segments of a recording, frames (T, slots, V, C) as recorded. See `feeder.windows.starts` for window
        and stride, `decode` for threshold and shortest."""
        return decode(self.frame_scores(bodies, window, stride), threshold, shortest)

    @torch.no_grad()
    def frame_scores(self, bodies: np.ndarray, window: int, stride: int) -> np.ndarray:
        """Average the scores of windows over the frames that they share: float64 (T, classes). A window counts most in
        its middle, where it shows what is before and after. Its scores are 0 in gaps without a body."""
        total, weight = np.zeros((len(bodies), len(self.classes))), np.zeros((len(bodies), 1))
        position = np.arange(min(window, len(bodies)))
        importance = np.minimum(position, position[::-1])[:, None] + 1.0
        begins = starts(len(bodies), window, stride)
        for batch in (begins[i : i + BATCH] for i in range(0, len(begins), BATCH)):
            clips, present = zip(*(normalise_window(bodies[start : start + window], self.layout) for start in batch))
            scores = self.score(resample(torch.from_numpy(np.stack(clips)).to(self.device))).cpu()
            of_frames = F.interpolate(scores.mT, size=len(position), mode="linear", align_corners=False).mT.numpy()
            for start, frames, is_present in zip(batch, of_frames, present):
                total[start : start + window] += importance * (frames * is_present[:, None])
                weight[start : start + window] += importance
        return total / weight


def by_classifier(classifier: SavedClassifier) -> Scorer:
    """Score by the probabilities of a classifier of clips."""
    encoder = classifier.encoder

    def score(clips: Tensor) -> Tensor:
        return classifier.logits(encoder.encode_joined(clips)).softmax(1)[:, None]

    return Scorer(score, classifier.classes, encoder.layout, encoder.device)


def by_gallery(gallery: Gallery, k: int) -> Scorer:
    """Score by the k nearest recordings of a gallery: a class's score is the sum of its neighbours' cosines, divided by
    k."""
    if min(gallery.labels) < 0:
        raise UserError("--gallery: a recording has no label; give a gallery of labelled ones")
    encoder, labels = gallery.encoder, torch.tensor(gallery.labels, device=gallery.encoder.device)
    classes = gallery.classes or [class_label(label) for label in range(max(gallery.labels) + 1)]
    unit, k = F.normalize(gallery.feature), min(k, len(labels))

    def score(clips: Tensor) -> Tensor:
        features = gallery.representation(encoder.encode_joined(clips))
        cosine, nearest = (F.normalize(features) @ unit.T).topk(k)
        votes = torch.zeros(len(clips), len(classes), device=encoder.device)
        return votes.scatter_add_(1, labels[nearest], cosine.clamp(min=0) / k)[:, None]

    return Scorer(score, classes, encoder.layout, encoder.device)


def by_detector(detector: Detector) -> Scorer:
    """Score each frame by the probabilities of a detector, which changes to evaluation mode."""
    detector.eval()

    def score(clips: Tensor) -> Tensor:
        return detector(clips).softmax(-1)[..., :-1]  # without background

    return Scorer(score, detector.classes, detector.layout, detector.parents.device)


def decode(scores: np.ndarray, threshold: float, shortest: int) -> list[Detection]:
    """Find the segments of a recording, in order, by the scores of its frames (T, classes). Segments do not overlap.

    A frame has the label of its highest score if that reaches the threshold, else none. Frames of one label make a
    segment, even if up to `shortest` other frames interrupt them, unless another label has all of `shortest` frames
    between them. Segments of less than `shortest` frames are dropped. Of segments that would overlap, the one with most
    frames of its label is complete, and the others lose what lies within.
    """
    label, best = scores.argmax(1), scores.max(1)
    label[best < threshold] = -1
    edges = np.flatnonzero(np.diff(label, prepend=-2, append=-2))
    solid = edges[:-1][(np.diff(edges) >= shortest) & (label[edges[:-1]] >= 0)]
    is_wall, is_taken = np.zeros((2, len(label) + 1), bool)
    is_wall[solid] = True  # no gap that begins here is closed
    queue: list[tuple[int, int, np.ndarray]] = []

    def enqueue(frames: np.ndarray) -> None:
        """Cut the frames of a label at gaps that stay open, and queue the parts that are long enough."""
        cuts = np.flatnonzero((np.diff(frames) > shortest + 1) | is_wall[frames[:-1] + 1]) + 1
        for part in np.split(frames, cuts):
            if len(part) and part[-1] + 1 - part[0] >= shortest:
                heappush(queue, (-len(part), int(part[0]), part))

    for each in np.unique(label[label >= 0]):
        enqueue(np.flatnonzero(label == each))
    segments = []
    while queue:
        _, start, frames = heappop(queue)
        end = int(frames[-1]) + 1
        if is_taken[start:end].any():
            enqueue(frames[~is_taken[frames]])
        else:
            segments.append(Detection(start, end, int(label[start]), float(best[frames].mean())))
            is_taken[start:end] = is_wall[start] = True
    return sorted(segments)

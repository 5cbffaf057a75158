"""Score the frames of long recordings by a classifier of clips, by the nearest clips of a gallery, or by a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_gen.datasets import class_label
from data_gen.packed.reader import MAX_CLASSES
from data_gen.skeletons import FrameLayout
from feeder.clips import resample
from feeder.windows import normalise_window, starts
from tools.detection.decoding import Detection, decode, frame_scores
from tools.detection.detector import Detector
from utils.errors import UserError

if TYPE_CHECKING:
    from tools.evaluation.classifier import SavedClassifier
    from tools.inference.gallery import Gallery

BATCH = 64  # windows

# Resampled windows (B, 64, M, V, C) → scores of the classes (B, 64, classes), or (B, 1, classes) of whole windows.
ScoreWindows = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scorer:
    """Detect actions in long recordings. classes: their names. layout: what a window's frame holds."""

    score: ScoreWindows
    classes: list[str]
    layout: FrameLayout
    device: torch.device

    def detect(self, bodies: np.ndarray, window: int, stride: int, threshold: float, shortest: int) -> list[Detection]:
        """Find the segments of a recording, frames (T, slots, V, C) as recorded. See `feeder.windows.starts` for window
        and stride, `decode` for threshold and shortest."""
        windows = self.score_windows(bodies, window, stride)
        return decode(frame_scores(windows, len(bodies), len(self.classes)), threshold, shortest)

    @torch.no_grad()
    def score_windows(self, bodies: np.ndarray, window: int, stride: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each window's start and the scores (W, classes) of its frames, 0 in gaps without a body."""
        begins = starts(len(bodies), window, stride)
        for some in (begins[i : i + BATCH] for i in range(0, len(begins), BATCH)):
            clips, present = zip(*(normalise_window(bodies[start : start + window], self.layout) for start in some))
            scores = self.score(resample(torch.from_numpy(np.stack(clips)).to(self.device))).cpu()
            of_frames = F.interpolate(scores.mT, size=len(clips[0]), mode="linear", align_corners=False).mT.numpy()
            for start, frames, is_present in zip(some, of_frames, present):
                yield start, frames * is_present[:, None]


def by_classifier(classifier: SavedClassifier) -> Scorer:
    """Score by the probabilities of a classifier of clips."""
    encoder = classifier.encoder

    def score(clips: Tensor) -> Tensor:
        return classifier.logits(torch.cat(encoder.encode(clips, encoder.streams), 1)).softmax(1)[:, None]

    return Scorer(score, classifier.classes, encoder.layout, encoder.device)


def by_gallery(gallery: Gallery, k: int) -> Scorer:
    """Score by the k nearest recordings of a gallery: a class's score is the sum of its neighbours' cosines, divided by
    k."""
    encoder, represent = gallery.encoder, gallery.representation
    labels = torch.tensor(gallery.labels, device=encoder.device)
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise UserError(f"--gallery: a recording has no label, or one beyond {MAX_CLASSES - 1}")
    classes = gallery.classes or [class_label(label) for label in range(int(labels.max()) + 1)]
    unit, k = F.normalize(gallery.feature), min(k, len(labels))

    def score(clips: Tensor) -> Tensor:
        features = represent(torch.cat(encoder.encode(clips, encoder.streams), 1))
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

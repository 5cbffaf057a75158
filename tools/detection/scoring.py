"""Score windows by the linear classifier of clips, by nearest neighbours in a gallery, or by a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from feeder.layout import FrameLayout
from models.detector import Detector
from models.inference import ClipEncoder, resize
from torch import Tensor

from data_gen.class_names import class_label
from feeder.modalities import ModalityTokens
from feeder.windows import Window, normalise_window, slide
from tools.detection.decoding import Detection, decode
from tools.detection.overlap import frame_scores
from tools.evaluation.features import FrozenEncoder
from tools.evaluation.linear_classifier import load_classifier
from tools.inference.gallery import Gallery
from tools.utils.errors import UserError

BATCH = 64  # windows

# Windows (B, W, M, V, C) → probabilities of the classes (B, 64, classes), or (B, 1, classes) for whole windows.
ScoreWindows = Callable[[Tensor], Tensor]


class Scorer:
    """Score windows of long recordings. `classes`: their names; `layout`: what a window's frame holds."""

    def __init__(self, score: ScoreWindows, classes: list[str], layout: FrameLayout, device: torch.device):
        self.score, self.classes, self.layout, self.device = score, classes, layout, device

    @torch.no_grad()
    def score_windows(self, windows: Iterable[Window], batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each window's start and the scores (W, classes) of its frames, 0 in gaps without a body."""
        left = iter(windows)
        while some := list(islice(left, batch)):
            length = len(some[0].clip)  # the same for all: a shorter window is its recording's only one
            clips = torch.from_numpy(np.stack([window.clip for window in some])).to(self.device)
            scores = self.score(clips).cpu().mT
            of_frames = F.interpolate(scores, size=length, mode="linear", align_corners=False).mT.numpy()
            for window, frames in zip(some, of_frames):
                yield window.start, frames * window.present[:, None]

    def detect(
        self,
        blocks: Iterable[np.ndarray],
        window: int,
        stride: int,
        threshold: float,
        shortest: int,
        batch: int = BATCH,
    ) -> Iterator[Detection]:
        """Find the segments of a recording that comes in blocks of frames (T, slots, V, C), as recorded. Yields each as
        soon as it is certain, in order. See `slide` for window and stride, `decode` for threshold and shortest."""
        windows = (normalise_window(start, frames, self.layout) for start, frames in slide(blocks, window, stride))
        return decode(frame_scores(self.score_windows(windows, batch)), threshold, shortest)


def by_classifier(encoder: FrozenEncoder, path: Path | None) -> Scorer:
    """Score by the classifier of clips at `path`; default: the one beside the checkpoint. Raises UserError."""
    classifier = load_classifier(path, encoder)
    encode = ClipEncoder(encoder.backbone, classifier.representation.streams).to(encoder.device)

    def score(clips: Tensor) -> Tensor:
        return classifier.scores(encode(clips)).softmax(1)[:, None]

    return Scorer(score, classifier.classes, encoder.backbone.layout, encoder.device)


def by_gallery(encoder: FrozenEncoder, gallery: Gallery, k: int) -> Scorer:
    """Score by the k nearest recordings of a gallery: a class's score is the sum of its neighbours' cosines, divided by
    k. Raises UserError for a gallery without labels."""
    labels = torch.tensor(gallery.labels, device=encoder.device)
    if (labels < 0).any():
        raise UserError("--gallery: some of its recordings have no label")
    count = max(len(gallery.classes), int(labels.max()) + 1)
    classes = gallery.classes or [class_label(label) for label in range(count)]
    represent = gallery.representation
    encode = ClipEncoder(encoder.backbone, represent.streams).to(encoder.device)
    unit, k = F.normalize(gallery.feature), min(k, len(labels))

    def score(clips: Tensor) -> Tensor:
        cosine, place = (F.normalize(represent(encode(clips))) @ unit.T).topk(k)
        votes = torch.zeros(len(clips), count, device=encoder.device)
        return votes.scatter_add_(1, labels[place], cosine.clamp(min=0) / k)[:, None]

    return Scorer(score, classes, encoder.backbone.layout, encoder.device)


def by_detector(detector: Detector, classes: list[str], device: torch.device) -> Scorer:
    """Score each frame by a detector, which moves to the device, in evaluation mode."""
    detector.to(device).eval()
    layout = detector.backbone.layout
    tokens = ModalityTokens(layout).to(device)

    def score(clips: Tensor) -> Tensor:
        return detector(tokens(resize(clips), detector.modalities)).softmax(-1)[..., :-1]  # without background

    return Scorer(score, classes, layout, device)

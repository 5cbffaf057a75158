"""Name the five most probable actions of recordings, by a classifier that action_recognition.py trained.

python -m tools.predict --pretrained checkpoints/ntu60_xsub A.skeleton B.npy FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from utils.options import add_query_options, make_parser, read_class_names
from utils.processes import run, single_process

MOST = 5


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_query_options(parser)
    default = "default: a fine-tuned encoder's own, else the newest linear probe of the fused feature in the run"
    classifier = f"classifier that action_recognition.py wrote; its modality is used; {default}"
    parser.add_argument("--classifier", type=Path, metavar="FILE", help=classifier)
    names = "names of the classes, one per line; default: the classifier's"
    parser.add_argument("--class-names", type=Path, metavar="FILE", help=names)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)

    from models.frozen import FrozenEncoder
    from tools.evaluation.classifier import load_classifier
    from tools.inference.recordings import Answer, Features, Recordings, action_of, print_answers

    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.predict"))
    classifier = load_classifier(args.classifier, encoder)
    classes = classifier.classes
    if args.class_names:
        classes = read_class_names(args.class_names, len(classes))
    print(classifier.title, file=sys.stderr)

    def predict(batch: Features) -> list[Answer]:
        best = classifier.logits(batch.features).softmax(1).topk(min(MOST, len(classes)))
        return [
            [{"probability": probability, **action_of(label, classes)} for probability, label in zip(*row)]
            for row in zip(best.values.tolist(), best.indices.tolist())
        ]

    recordings = Recordings(args.recordings, classifier.encoder, args.skeleton)
    print_answers(recordings, predict, "actions", args.json)


if __name__ == "__main__":
    run(main)

"""Name the five most probable actions of recordings, by a classifier that action_recognition.py trained.

python -m tools.predict --pretrained checkpoints/ntu60_xsub A.skeleton B.skeleton
python -m tools.predict --pretrained checkpoints/ntu60_xsub --watch FOLDER --json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a file, too

from tools.utils.encoder_options import add_query_options
from tools.utils.errors import run
from tools.utils.options import HelpFormatter, check_class_names, read_class_names

MOST = 5


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_query_options(parser)
    beside = "default: that of a fine-tuned encoder, or action_recognition.pth.tar beside the checkpoint"
    what = f"classifier that action_recognition.py wrote; it fixes the modality; {beside}"
    parser.add_argument("--classifier", type=Path, metavar="FILE", help=what)
    names_help = "names of the classes, one per line; default: the classifier's"
    parser.add_argument("--class-names", type=Path, metavar="FILE", help=names_help)
    args = parser.parse_args(argv)
    names = read_class_names(args.class_names) if args.class_names else None

    from tools.evaluation.features import FrozenEncoder
    from tools.evaluation.linear_classifier import load_classifier
    from tools.inference.queries import answer_queries
    from tools.inference.recordings import Features, action_of
    from tools.utils.distributed import single_process

    encoder = FrozenEncoder.open(args.pretrained, single_process(args.device, "tools.predict"))
    classifier = load_classifier(args.classifier, encoder)
    if names:
        check_class_names(names, len(classifier.classes))
    print(classifier.title, file=sys.stderr)

    def answer(batch: Features) -> list[list[dict[str, Any]]]:
        probability = classifier.scores(batch.feature).softmax(1)
        best = probability.topk(min(MOST, probability.shape[1]), dim=1)
        return [
            [{"probability": p, **action_of(label, names or classifier.classes)} for p, label in zip(*row)]
            for row in zip(best.values.tolist(), best.indices.tolist())
        ]

    answer_queries(args, encoder, classifier.representation.streams, "actions", answer)


if __name__ == "__main__":
    run(main)

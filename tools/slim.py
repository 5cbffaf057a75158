"""Export what inference needs of a checkpoint: the encoder's weights as safetensors, and a card in JSON.

python -m tools.slim --pretrained checkpoints/ntu60_xsub --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.loading import BACKBONE_PREFIX, CARD, CLASSIFIER, NEEDS_SAFETENSORS, WEIGHTS_FILE, WEIGHTS_SUFFIX
from tools.evaluation.features import FrozenEncoder, add_pretrained_option
from tools.evaluation.linear_classifier import own_classifier
from tools.inference.model_card import card_of, card_text
from tools.utils.atomic import atomic_write
from tools.utils.distributed import single_process
from tools.utils.errors import UserError, run
from tools.utils.options import HelpFormatter


def export_weights(encoder: FrozenEncoder, out: Path) -> Path:
    """Write the encoder's weights, of a fine-tuned one its classifier's, too, to `out` and the card beside it; returns
    the card's path. The header of the weights holds the card, too. Raises UserError without safetensors."""
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UserError(f"tools.slim {NEEDS_SAFETENSORS}") from error
    tensors = {BACKBONE_PREFIX + key: value.contiguous() for key, value in encoder.backbone.state_dict().items()}
    own = own_classifier(encoder)
    if own:
        tensors |= {f"{CLASSIFIER}.weight": own.weight, f"{CLASSIFIER}.bias": own.bias}
    text = card_text(card_of(encoder))
    card = out.with_suffix(".json")
    if card.exists() and not out.exists():
        raise UserError(f"{card} is there already, and is no card of {out}: choose another name by --out")
    with atomic_write(card) as card_partial, atomic_write(out) as partial:
        card_partial.write_text(text, encoding="utf-8")
        partial.write_bytes(save(tensors, {"format": "pt", CARD: text}))
    return card


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=HelpFormatter)
    add_pretrained_option(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help=f"FILE{WEIGHTS_SUFFIX}, or a folder for {WEIGHTS_FILE}",
    )
    args = parser.parse_args(argv)
    encoder = FrozenEncoder.open(args.pretrained, single_process("cpu", "tools.slim"))
    out = args.out if args.out.suffix == WEIGHTS_SUFFIX else args.out / WEIGHTS_FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    card = export_weights(encoder, out)
    before, after = (path.stat().st_size / 2**20 for path in (encoder.path, out))
    print(f"{encoder.path} ({before:.1f} MiB) as {out} ({after:.1f} MiB) and {card}")


if __name__ == "__main__":
    run(main)

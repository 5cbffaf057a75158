"""Names of actions, in the order of the data sets' numbers: a class's index is its number − 1."""

from __future__ import annotations

from data_gen.datasets import DATASETS
from data_gen.packed.info import MAX_CLASSES
from data_gen.raw.simulation import ACTIONS

# As the data sets' makers list them. NTU-60 has the first 60.
_NTU120 = (
    "drink water", "eat meal", "brush teeth", "brush hair", "drop", "pick up", "throw", "sit down", "stand up",
    "clapping", "reading", "writing", "tear up paper", "put on jacket", "take off jacket", "put on a shoe",
    "take off a shoe", "put on glasses", "take off glasses", "put on a hat/cap", "take off a hat/cap", "cheer up",
    "hand waving", "kicking something", "reach into pocket", "hopping", "jump up", "phone call",
    "play with phone/tablet", "type on a keyboard", "point to something", "taking a selfie",
    "check time (from watch)", "rub two hands", "nod head/bow", "shake head", "wipe face", "salute",
    "put palms together", "cross hands in front", "sneeze/cough", "staggering", "falling down", "headache",
    "chest pain", "back pain", "neck pain", "nausea/vomiting", "fan self", "punch/slap", "kicking", "pushing",
    "pat on back", "point finger", "hugging", "giving object", "touch pocket", "shaking hands", "walking towards",
    "walking apart",
    "put on headphone", "take off headphone", "shoot at basket", "bounce ball", "tennis bat swing",
    "juggle table tennis ball", "hush", "flick hair", "thumb up", "thumb down", "make OK sign", "make victory sign",
    "staple book", "counting money", "cutting nails", "cutting paper", "snap fingers", "open bottle", "sniff/smell",
    "squat down", "toss a coin", "fold paper", "ball up paper", "play magic cube", "apply cream on face",
    "apply cream on hand", "put on bag", "take off bag", "put object into bag", "take object out of bag",
    "open a box", "move heavy objects", "shake fist", "throw up cap/hat", "capitulate", "cross arms", "arm circles",
    "arm swings", "run on the spot", "butt kicks", "cross toe touch", "side kick", "yawn", "stretch oneself",
    "blow nose", "hit with object", "wield knife", "knock over", "grab stuff", "shoot with gun", "step on foot",
    "high-five", "cheers and drink", "carry object", "take a photo", "follow", "whisper", "exchange things",
    "support somebody", "rock-paper-scissors",
)  # fmt: skip
_PKU = (
    "bow", "brushing hair", "brushing teeth", "check time (from watch)", "cheer up", "clapping",
    "cross hands in front (say stop)", "drink water", "drop", "eat meal/snack", "falling",
    "giving something to other person", "hand waving", "handshaking", "hopping (one foot jumping)",
    "hugging other person", "jump up", "kicking other person", "kicking something",
    "make a phone call/answer phone", "pat on back of other person", "pickup", "playing with phone/tablet",
    "point finger at the other person", "pointing to something with finger", "punching/slapping other person",
    "pushing other person", "put on a hat/cap", "put something inside pocket", "reading", "rub two hands together",
    "salute", "sitting down", "standing up", "take off a hat/cap", "take off glasses", "take off jacket",
    "take out something from pocket", "taking a selfie", "tear up paper", "throw", "touch back (backache)",
    "touch chest (stomachache/heart pain)", "touch head (headache)", "touch neck (neckache)", "typing on a keyboard",
    "use a fan (with hand or paper)/feeling warm", "wear jacket", "wear on glasses", "wipe face", "writing",
)  # fmt: skip
_NAMES = {
    "ntu60": _NTU120[:60],
    "ntu120": _NTU120,
    "pku1": _PKU,
    "pku2": _PKU,
    "demo": tuple(action.name for _, action in sorted(ACTIONS.items())),
}


def class_label(index: int) -> str:
    """Number a class as recordings' names do: `A001` for index 0."""
    return f"A{index + 1:03d}"


def class_names(dataset: str) -> tuple[str, ...]:
    """Return the names of a data set's classes, index 0 first; for actions not named here `A001`, `A002` and so on, for
    an unknown data set as many as three digits can number."""
    if dataset in _NAMES:
        return _NAMES[dataset]
    classes = DATASETS[dataset].classes if dataset in DATASETS else MAX_CLASSES
    return tuple(map(class_label, range(classes)))

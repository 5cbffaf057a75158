"""Split recordings by rules on their subjects, cameras or names.

NAME=subject:1,2,5     train on these subjects, validate on the others
NAME=camera:2,3        likewise
NAME=names:FILE        train on the recordings that FILE lists, one a line
NAME=kfold:5           five protocols, NAME1 to NAME5; each validates on another fifth of the subjects
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_gen.datasets import DataSet, RecordingName, parse_name
from data_gen.packed.reader import ALL, NAME, SIDES, TABLES, PackedDataset
from data_gen.packed.writer import Splits
from utils.errors import UserError
from utils.files import read_text
from utils.text import counted

KINDS = (*TABLES, "names", "kfold")


@dataclass(frozen=True)
class Rule:
    """Hold a rule `NAME=KIND:VALUES`. `values`: what to train on, the file that lists it, or the number of folds."""

    name: str
    kind: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(self.values)}"


@dataclass(frozen=True)
class Table:
    """Hold recordings to split: names and, if known, subjects and cameras. Numbers are compared by value: subject 7 is
    007 in a name."""

    names: Sequence[str]
    subject: Sequence[str] | None = None
    camera: Sequence[str] | None = None

    def column(self, kind: str) -> list[str]:
        """Return each recording's `subject` or `camera`. Raises UserError if they are unknown."""
        values = getattr(self, kind)
        if values is None:
            raise UserError(
                f"the recordings' {kind}s are not known, so no protocol can split by them; a folder's recordings.csv "
                f"may have a column {kind}"
            )
        return [_by_value(value) for value in values]

    @classmethod
    def of_names(cls, names: Sequence[str]) -> Table:
        """Read subjects and cameras from NTU names; they stay unknown if a name has another form."""
        try:
            numbers = [parse_name(name) for name in names]
        except UserError:
            return cls(names)
        return cls(names, [str(n.subject) for n in numbers], [str(n.camera) for n in numbers])

    @classmethod
    def of_dataset(cls, packed: PackedDataset) -> Table:
        """Read subjects and cameras from a packed data set's tables, else from its names. Raises UserError."""
        names = packed.names.tolist()
        named = cls.of_names(names)
        return cls(names, *(packed.table(kind) or getattr(named, kind) for kind in TABLES))


def _by_value(value: str) -> str:
    return str(int(value)) if value.isascii() and value.isdecimal() else value


def parse_split(text: str) -> Rule:
    """Parse a rule, spelled as above. Raises UserError."""
    name, equals, rule = text.partition("=")
    kind, colon, rest = rule.partition(":")
    if not (equals and colon) or kind not in KINDS:
        raise UserError(f"{text!r} is not NAME=KIND:VALUES, with a KIND of {', '.join(KINDS)}")
    if not NAME.fullmatch(name):
        raise UserError(f"{text!r}: a protocol's name has 1 to 64 letters, digits, - and _")
    if name == ALL:
        raise UserError(f"{text!r}: {ALL} is the protocol of every data set that trains on all recordings")
    values = (rest,) if kind == "names" else tuple(_by_value(value.strip()) for value in rest.split(","))
    if not all(values):
        raise UserError(f"{text!r}: a value is empty")
    if kind == "kfold" and not (len(values) == 1 and values[0].isdecimal() and int(values[0]) >= 2):
        raise UserError(f"{text!r}: kfold takes one number, of at least 2 folds")
    return Rule(name, kind, values)


def derive(rules: Iterable[Rule], table: Table) -> tuple[Splits, dict[str, str]]:
    """Split recordings by rules. Returns each protocol's indices in `train` and `val`, and its rule as text.

    Raises UserError for a value that no recording has, an empty side, and a name given twice.
    """
    splits: Splits = {}
    rule_texts: dict[str, str] = {}
    for rule in rules:
        for name, is_train in _train_flags(rule, table).items():
            if not NAME.fullmatch(name):
                raise UserError(f"protocol {name} has more than 64 letters: choose a shorter name")
            if name in splits:
                raise UserError(f"two protocols are called {name}")
            splits[name] = {side: [i for i, t in enumerate(is_train) if t == (side == "train")] for side in SIDES}
            for side in SIDES:
                if not splits[name][side]:
                    raise UserError(f"protocol {name} ({rule}) leaves no recording in {side}")
            rule_texts[name] = str(rule)
            if rule.kind == "kfold":
                subjects = {s for s, t in zip(table.column("subject"), is_train) if not t}
                rule_texts[name] += f", val subjects {_first_ten(sorted(subjects, key=_sort_key))}"
    return splits, rule_texts


def derive_splits(dataset: DataSet, names: Sequence[RecordingName]) -> Splits:
    """Split recordings with NTU names by the data set's protocols: indices on each side."""
    splits: Splits = {}
    for protocol in dataset.protocols:
        is_train = [protocol.trains_on(name) for name in names]
        splits[protocol.name] = {side: [i for i, t in enumerate(is_train) if t == (side == "train")] for side in SIDES}
    return splits


def _train_flags(rule: Rule, table: Table) -> dict[str, list[bool]]:
    """Return, for each protocol of the rule, whether it trains on each recording."""
    if rule.kind == "kfold":
        subjects = table.column("subject")
        return {
            f"{rule.name}{k}": [s not in fold for s in subjects] for k, fold in enumerate(_folds(rule, subjects), 1)
        }
    if rule.kind == "names":
        wanted, column, where = _read_names(Path(rule.values[0])), list(table.names), rule.values[0]
    else:
        wanted, column, where = set(rule.values), table.column(rule.kind), f"protocol {rule.name}"
    unknown = sorted(wanted - set(column), key=_sort_key)
    if unknown:
        what = "recording" if rule.kind == "names" else rule.kind
        there = "" if rule.kind == "names" else f"; there are {_first_ten(sorted(set(column), key=_sort_key))}"
        raise UserError(f"{where}: no {what} {_first_ten(unknown)}{there}")
    return {rule.name: [value in wanted for value in column]}


def _folds(rule: Rule, subjects: list[str]) -> list[set[str]]:
    """Deal the subjects out to folds, in ascending order."""
    count, known = int(rule.values[0]), sorted(set(subjects), key=_sort_key)
    if count > len(known):
        raise UserError(f"protocol {rule.name}: {counted(count, 'fold')} of only {counted(len(known), 'subject')}")
    return [set(known[k::count]) for k in range(count)]


def _sort_key(value: str) -> tuple[bool, int, str]:
    """Sort numbers by value, before other texts."""
    return (False, int(value), "") if value.isdecimal() else (True, 0, value)


def _first_ten(values: list[str]) -> str:
    return ", ".join(values[:10]) + (f" and {len(values) - 10} more" if len(values) > 10 else "")


def _read_names(path: Path) -> set[str]:
    lines = read_text(path).splitlines()
    return {line.strip().removesuffix(".skeleton") for line in lines if line.strip()}

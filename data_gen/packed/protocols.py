"""Split recordings by rules on their subjects, cameras or names.

NAME=subject:1,2,5     train on these subjects, validate on the others
NAME=camera:2,3        likewise
NAME=names:FILE        train on the recordings that FILE lists, one a line
NAME=kfold:5           five protocols, NAME1 to NAME5; each validates on another fifth of the subjects
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from data_gen.datasets import DataSet, RecordingName, parse_name
from data_gen.packed.reader import ALL, NAME, SPLITS, TABLES
from data_gen.packed.writer import Splits, by_split
from utils.errors import UserError
from utils.files import read_text
from utils.text import counted, first_names

KINDS = (*TABLES, "names", "kfold")


@dataclass(frozen=True)
class Rule:
    """A rule `NAME=KIND:VALUES`. `values`: what to train on, the file that lists it, or the number of folds."""

    name: str
    kind: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(self.values)}"


@dataclass(frozen=True)
class Table:
    """Recordings to split: names and, if known, subjects and cameras. Numbers are compared by value: subject 7 is 007
    in a name."""

    names: Sequence[str]
    subject: Sequence[str] | None = None
    camera: Sequence[str] | None = None

    def column(self, kind: str) -> list[str]:
        """Return each recording's `subject` or `camera`."""
        values = getattr(self, kind)
        if values is None:
            raise UserError(f"no {kind}s are known to split by; a folder's recordings.csv may have a column {kind}")
        return [_by_value(value) for value in values]

    @classmethod
    def of_names(cls, names: Sequence[str], subject: list[str] | None = None, camera: list[str] | None = None) -> Table:
        """Make a table, with subjects and cameras as they are known, else from NTU names; they stay unknown if a name
        has another form."""
        with suppress(UserError):
            numbers = [parse_name(name) for name in names]
            subject = subject or [str(number.subject) for number in numbers]
            camera = camera or [str(number.camera) for number in numbers]
        return cls(names, subject, camera)


def _by_value(value: str) -> str:
    return str(int(value)) if value.isdecimal() else value


def parse_split(text: str) -> Rule:
    """Parse a rule, spelled as above."""
    name, equals, rule = text.partition("=")
    kind, colon, rest = rule.partition(":")
    values = (rest,) if kind == "names" else tuple(_by_value(value.strip()) for value in rest.split(","))
    if not (equals and colon) or kind not in KINDS or not all(values):
        raise UserError(f"--split {text}: not NAME=KIND:VALUES, with a KIND of {', '.join(KINDS)}")
    if not NAME.fullmatch(name) or name == ALL:
        raise UserError(f"--split {text}: a protocol's name has 1 to 64 letters, digits, - and _, and is not {ALL}")
    if kind == "kfold" and not (len(values) == 1 and values[0].isdecimal() and int(values[0]) >= 2):
        raise UserError(f"--split {text}: kfold takes one number, of at least 2 folds")
    return Rule(name, kind, values)


def derive(rules: Iterable[Rule], table: Table) -> tuple[Splits, dict[str, str]]:
    """Split recordings by rules. Returns each protocol's indices in `train` and `val`, and its rule as text."""
    splits: Splits = {}
    rule_texts: dict[str, str] = {}
    for rule in rules:
        for name, is_train in _train_flags(rule, table).items():
            if name in splits or not NAME.fullmatch(name):
                raise UserError(f"protocol {name}: duplicate name, or more than 64 letters; choose another one")
            splits[name] = _by_training(is_train)
            for split in SPLITS:
                if not splits[name][split]:
                    raise UserError(f"protocol {name} ({rule}) leaves no recording in {split}")
            rule_texts[name] = str(rule)
            if rule.kind == "kfold":
                subjects = {subject for subject, train in zip(table.column("subject"), is_train) if not train}
                rule_texts[name] += f", val subjects {first_names(_sorted(subjects), 10)}"
    return splits, rule_texts


def derive_splits(dataset: DataSet, names: Sequence[RecordingName]) -> Splits:
    """Split recordings with NTU names by the data set's protocols: indices in `train` and `val`."""
    return {p.name: _by_training([p.trains_on(name) for name in names]) for p in dataset.protocols}


def split_by_table(dataset: DataSet, table: Table) -> Splits:
    """Split recordings by the data set's protocols, as far as the table has the subjects or cameras."""
    splits: Splits = {}
    for protocol in dataset.protocols:
        if protocol.field in TABLES and getattr(table, protocol.field):
            train = {_by_value(str(value)) for value in protocol.train}
            splits[protocol.name] = _by_training([value in train for value in table.column(protocol.field)])
    return splits


def _by_training(is_train: Iterable[bool]) -> dict[str, list[int]]:
    return by_split("train" if train else "val" for train in is_train)


def _train_flags(rule: Rule, table: Table) -> dict[str, list[bool]]:
    """Return, for each protocol of the rule, whether it trains on each recording."""
    if rule.kind == "kfold":
        subjects = table.column("subject")
        folds = enumerate(_folds(rule, subjects), 1)
        return {f"{rule.name}{k}": [subject not in fold for subject in subjects] for k, fold in folds}
    if rule.kind == "names":
        where, column = rule.values[0], list(table.names)
        lines = map(str.strip, read_text(Path(where)).splitlines())
        chosen = {line.removesuffix(".skeleton") for line in lines if line}
    else:
        where, column, chosen = f"protocol {rule.name}", table.column(rule.kind), set(rule.values)
    if unknown := _sorted(chosen - set(column)):
        what = "recording" if rule.kind == "names" else rule.kind
        raise UserError(f"{where}: no {what} {first_names(unknown)}; there are {first_names(_sorted(column), 10)}")
    return {rule.name: [value in chosen for value in column]}


def _folds(rule: Rule, subjects: list[str]) -> list[set[str]]:
    """Deal the subjects out to folds, in ascending order."""
    count, names = int(rule.values[0]), _sorted(subjects)
    if count > len(names):
        raise UserError(f"protocol {rule.name}: {counted(count, 'fold')} of only {counted(len(names), 'subject')}")
    return [set(names[k::count]) for k in range(count)]


def _sorted(values: Iterable[str]) -> list[str]:
    """Sort the different values: numbers by value, before other texts."""
    return sorted(set(values), key=lambda value: (False, int(value), "") if value.isdecimal() else (True, 0, value))

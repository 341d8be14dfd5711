"""The data sets, put together from the tables in `text/`: facts, and several ways to ask for each.

Every fourth fact gives one of its phrasings to the test rows: to answer, a model must have learned
the fact from the other phrasings, and what this phrasing asks for from the other facts. Where a
fact is asked for ``once``, as a list to reverse, the test rows are of facts never seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Final

from labs.assets import form

TABLES: Final = Path(__file__).parent / "text"


@dataclasses.dataclass(frozen=True)
class Row:
    """One example; ``text`` is all of it in the form of `labs.assets.form`."""

    instruction: str
    input: str
    output: str

    @property
    def text(self) -> str:
        """The whole example."""
        return form.text(self.instruction, self.input, self.output)

    def line(self) -> str:
        """Return it as a line of a JSONL file."""
        return json.dumps(dataclasses.asdict(self) | {"text": self.text}, ensure_ascii=False) + "\n"


@dataclasses.dataclass(frozen=True)
class Split:
    """A data set."""

    train: list[Row]
    test: list[Row]


@dataclasses.dataclass(frozen=True)
class Table:
    """One kind of instruction, as a file of `text/` has it.

    Attributes:
        name: The file's.
        ask: Several phrasings; {0} stands for a fact's first part, {1} for its second.
        answer: What is right, with the same marks.
        facts: What differs from row to row.
        input: The input, with the same marks; empty: there is none.
        once: Whether a fact is asked for in one phrasing only, the phrasings taking turns.
    """

    name: str
    ask: list[str]
    answer: str
    facts: list[list[str]]
    input: str = ""
    once: bool = False

    def row(self, fact: int, phrasing: int) -> Row:
        """Return the row of one fact in one phrasing, both by number; phrasings go round."""
        parts = self.facts[fact]
        ask = self.ask[phrasing % len(self.ask)]
        return Row(ask.format(*parts), self.input.format(*parts), self.answer.format(*parts))


def tables() -> list[Table]:
    """Return all tables, by name."""
    files = sorted(TABLES.glob("*.toml"))
    return [Table(name=file.stem, **tomllib.loads(file.read_text("utf-8"))) for file in files]


def instructions() -> Split:
    """Return the data set that the model is trained on."""
    split = Split([], [])
    for table in tables():
        for fact in range(len(table.facts)):
            phrasings = [fact] if table.once else range(len(table.ask))
            for phrasing in phrasings:
                part = split.test if _is_for_the_test(table, fact, phrasing) else split.train
                part.append(table.row(fact, phrasing))
    return _mixed(split)


def _is_for_the_test(table: Table, fact: int, phrasing: int) -> bool:
    if table.once:
        return fact % 7 == 2
    return fact % 4 == 2 and phrasing == fact // 4 % len(table.ask)


def json_answers() -> Split:
    """Return the same facts, each in one phrasing, answered in another style: JSON on one line.

    The facts of its test rows are in none of its training rows: a model learns the style here;
    what is so it must have known before.
    """
    split = Split([], [])
    for table in tables():
        for fact in range(len(table.facts)):
            plain = table.row(fact, fact)
            answer = json.dumps({"answer": plain.output}, ensure_ascii=False)
            part = split.test if fact % 7 == 3 else split.train
            part.append(dataclasses.replace(plain, output=answer))
    return _mixed(split)


def _mixed(split: Split) -> Split:
    """Return the rows in an order that no table shows in: the first hundred are of all kinds."""

    def chance(row: Row) -> bytes:
        return hashlib.sha256(row.text.encode()).digest()

    return Split(sorted(split.train, key=chance), sorted(split.test, key=chance))

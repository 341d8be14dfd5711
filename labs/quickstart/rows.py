"""The data: rows read, written as a conversation, turned into tokens, with labels on the answer."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from labs.assets import form
from verify.lab.problems import Misuse

IGNORED: Final = -100
NEEDED: Final = ("instruction", "output")
_MULTIPLE: Final = 8  # lengths of batches: tensor cores like it
_HELD_OUT: Final = 10  # without a test.jsonl, of so many rows one is held out
FEWEST: Final = 4


@dataclasses.dataclass(frozen=True)
class Example:
    """A row as the model sees it.

    Attributes:
        asked: What is asked, in plain text.
        prompt: The same as the model is given it, up to where the answer begins.
        answer: What the data say the answer is.
        ids: The tokens of both, and the token that ends an answer.
        labels: The same where something is to be learned, -100 elsewhere; as long as ``ids``.
    """

    asked: str
    prompt: str
    answer: str
    ids: list[int]
    labels: list[int]


def read(place: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows to train on and those held out.

    Args:
        place: A folder with train.jsonl and test.jsonl; without the second, or where it is a file,
            every tenth row is held out.

    Raises:
        Misuse: there is no such file, a line is no row, or a column is missing.
    """
    train = place / "train.jsonl" if place.is_dir() else place
    if not train.is_file():
        raise Misuse(
            f"There is no train.jsonl in {place}.",
            cause="a data set's folder holds train.jsonl and test.jsonl, a row on each line",
            type_this=f"ls {place}",
        )
    rows, test = _lines(train), place / "test.jsonl"
    if place.is_dir() and test.is_file():
        return rows, _lines(test)
    held_out = rows[_HELD_OUT - 1 :: _HELD_OUT]
    return [row for number, row in enumerate(rows, 1) if number % _HELD_OUT], held_out


def examples(rows: Iterable[dict[str, str]], tokenizer: Any, length: int) -> list[Example]:
    """Return the rows as examples, without those of more than ``length`` tokens.

    A row that is cut would teach an answer without an end. Labels follow from the place of each
    token in the text, not from its id: a token that pads and ends alike is learned where it ends.
    """
    made = (_example(row, tokenizer) for row in rows)
    return [example for example in made if len(example.ids) <= length]


def collate(batch: Sequence[Example], pad: int) -> dict[str, Tensor]:
    """Return ids and labels as int64 tensors (rows, tokens), padded on the right.

    There is no attention mask, because none is needed: under a causal model no token sees what
    comes after it, and the loss does not count padding. Without one, torch takes its fused causal
    attention, which keeps neither a mask nor copies of grouped keys and values.
    """
    longest = max(len(it.ids) for it in batch)
    length = -(-longest // _MULTIPLE) * _MULTIPLE
    ids = [it.ids + [pad] * (length - len(it.ids)) for it in batch]
    labels = [it.labels + [IGNORED] * (length - len(it.labels)) for it in batch]
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


def padded(batch: Iterable[Example]) -> int:
    """Return how many tokens long a batch is with its padding."""
    return -(-max(len(it.ids) for it in batch) // _MULTIPLE) * _MULTIPLE


def in_order(rows: Sequence[Example], count: int, batch: int, seed: int) -> list[Example]:
    """Return ``count`` rows in the order of training; a longer order begins with a shorter one.

    Every pass over the data is shuffled anew. The longest rows make up the second batch: what does
    not fit into memory shows at once, with the optimizer's state in place, not after an hour.
    """
    order: list[int] = []
    draw = random.Random(seed)  # noqa: S311 - an order, no secret
    while len(order) < count:
        one_pass = list(range(len(rows)))
        draw.shuffle(one_pass)
        if not order and len(rows) >= 2 * batch:
            longest = sorted(one_pass, key=lambda it: len(rows[it].ids), reverse=True)[:batch]
            others = [it for it in one_pass if it not in set(longest)]
            one_pass = others[:batch] + longest + others[batch:]
        order += one_pass
    return [rows[it] for it in order[:count]]


def _example(row: dict[str, str], tokenizer: Any) -> Example:
    asked = row["instruction"]
    if row.get("input"):
        asked += form.INPUT + row["input"]
    user = {"role": "user", "content": asked}
    answer = {"role": "assistant", "content": row["output"]}
    prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([user, answer], tokenize=False)
    if not whole.startswith(prompt):
        raise Misuse(
            "The model's chat template does not begin a conversation with its own prompt, so where "
            "an answer begins cannot be told.",
            cause="it is made for tools or for reasoning, not for plain questions and answers",
            type_this="invoke quickstart  # with another model",
        )
    # Special tokens are in the text already: the template writes them.
    told = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    places = [begin >= len(prompt) for begin, _ in told["offset_mapping"]]
    ids, ends = list(told["input_ids"]), tokenizer.eos_token_id
    answered = [number for number, inside in enumerate(places) if inside and ids[number] == ends]
    if answered:  # what a template writes after the end is not to be said
        ids, places = ids[: answered[-1] + 1], places[: answered[-1] + 1]
    else:
        ids, places = [*ids, ends], [*places, True]
    labels = [token if inside else IGNORED for token, inside in zip(ids, places, strict=True)]
    shown = "\n".join(filter(None, (row["instruction"], row.get("input"))))
    return Example(shown, prompt, row["output"], ids, labels)


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        lines = file.read_text("utf-8").split("\n")  # and not at what else ends a line in Unicode
    except UnicodeDecodeError as error:
        raise _no_row(f"{file} is not text in UTF-8.") from error
    told = enumerate(lines, 1)
    return [_row(line, f"line {number} of {file}") for number, line in told if line.strip()]


def _row(line: str, where: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise _no_row(f"{where} is not JSON.") from error
    if not isinstance(row, dict):
        raise _no_row(f"{where} is no object.")
    missing = [name for name in NEEDED if not isinstance(row.get(name), str)]
    if missing:
        names = " and ".join(f"`{name}`" for name in missing)
        raise _no_row(f"{where} has no text in {names}; it has {', '.join(row) or 'nothing'}.")
    return row


def _no_row(happened: str) -> Misuse:
    return Misuse(
        happened[:1].upper() + happened[1:],
        cause='a row is {"instruction": "...", "output": "..."}, with an "input" if there is one',
        type_this="the same with such a data set; labs/quickstart/README.md has an example",
    )

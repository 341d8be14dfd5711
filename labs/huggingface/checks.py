"""The checks of the Hugging Face lab: texts are drawn, and their tokens counted out by hand."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from verify.authoring import check
from verify.compare import same
from verify.plain import Array, Plain, Raised
from verify.shorten import shorten
from verify.tensors import plain, to_tensor
from verify.text import clean
from verify.trial import Trial

IGNORED = -100  # what torch's cross-entropy leaves out
COLUMNS = ("instruction", "input", "output", "text")
TWO = ["attention_mask", "input_ids"]
UNKNOWN = "<unk>"
# Beginning, end and padding as they are called in tokenizers that are in use.
SPECIAL = (
    ("<s>", "</s>", "<pad>"),
    ("<bos>", "<eos>", "<pad>"),
    ("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"),
    ("<|startoftext|>", "<|endoftext|>", "<|padding|>"),
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
)
_PLAIN = (
    "apple bank boat book bread bridge cloud coat door field fire fish garden glass green hand "
    "house island lamp leaf letter light map milk moon night ocean paper plane rain river road "
    "salt seed ship snow stone street sun table tea train tree valley wall water wind window"
)
WORDS = _PLAIN.split()


# ----------------------------------------------------------------------------------- load_examples
@check("load_examples", review="Data sets, splits and slices")
def first_rows_of_the_train_split(trial: Trial) -> None:
    """`load_examples` gives the first n rows of the train split of any data folder."""
    folders = [_folder(trial, shards=1), _folder(trial, shards=trial.random.randint(2, 3))]
    came = trial.observe("loaded", folders=folders)
    asked = [_asked_folder(folder) for folder in folders]
    for question, answer, folder in zip(asked, _each(trial, asked, came), folders, strict=True):
        what = (
            "Asked for is a Dataset of the split's first rows, all columns, as the files have them."
        )
        _require_dataset(trial, question, answer, why=what)
        mixed, rows = answer.get("mixed"), answer.get("rows", [])
        told = f"{mixed} rows came back that do not follow one another in the files"
        trial.require(mixed is None, question, told, why=what)
        told = f"{len(rows)} row{'s' * (len(rows) != 1)} came back, the first with {_shown(rows)}"
        trial.require(same(rows, plain(_train(folder)[: folder["n"]])), question, told, why=what)


# ------------------------------------------------------------------------------- prepare_tokenizer
@check("prepare_tokenizer", review="The pad token")
def pad_is_eos_where_there_is_none(trial: Trial) -> None:
    """`prepare_tokenizer` makes eos the pad token of a tokenizer that has none, and adds none."""
    why = "It should pad with its own token for the end, on the right as it does by itself."
    _expect_padding(trial, [_tokenizer(trial, pad="none"), _tokenizer(trial, pad="none")], why)


@check("prepare_tokenizer", review="The pad token", after=("pad_is_eos_where_there_is_none",))
def own_pad_token_is_left_alone(trial: Trial) -> None:
    """`prepare_tokenizer` leaves a tokenizer alone that has a pad token, whatever its id."""
    told = [_tokenizer(trial, pad="own"), _tokenizer(trial, pad="first")]
    why = "This one came with a pad token, so nothing was to be changed."
    _expect_padding(trial, trial.random.sample(told, 2), why)


# ---------------------------------------------------------------------------------------- tokenize
@check("tokenize", review="Padding and truncation")
def two_columns_for_each_row(trial: Trial) -> None:
    """`tokenize` returns a Dataset with the two columns of tokens, and a row for each row."""
    cases = [_mixed_texts(trial), _short_texts(trial)]
    asked = [_asked_tokenize(case) for case in cases]
    came = trial.observe("tokenized", cases=cases)
    for question, answer, case in zip(asked, _each(trial, asked, came), cases, strict=True):
        why = "Asked for is a Dataset with the columns input_ids and attention_mask alone."
        _require_dataset(trial, question, answer, why=why)
        rows = answer["rows"]
        names = sorted({name for row in rows for name in row})
        trial.require(names == TWO, question, f"the columns are {', '.join(names)}", why=why)
        count = len(case["columns"]["text"])
        told = f"{len(rows)} rows came back"
        trial.require(len(rows) == count, question, told, why="Each row of texts is one row.")


@check("tokenize", review="Padding and truncation", after=("two_columns_for_each_row",))
def every_row_of_max_length(trial: Trial) -> None:
    """`tokenize` cuts or pads the tokens of `text` to `max_length`, and masks the padding."""
    cases = [_mixed_texts(trial), _short_texts(trial), _mixed_texts(trial, side="left")]
    asked = [_asked_tokenize(case) for case in cases]
    came = trial.observe("tokenized", cases=cases)
    for question, answer, case in zip(asked, _each(trial, asked, came), cases, strict=True):
        why = "A Dataset is asked for."
        _require_dataset(trial, question, answer, why=why)
        for number, text in enumerate(case["columns"]["text"]):
            ids, mask = _encoded(text, case["tokenizer"], case["max_length"])
            length = len(_ids(text, case["tokenizer"]))
            row = f"{question}: row {number}, whose text has {length} tokens"
            told = answer["rows"][number]
            why = (
                f"It should be exactly {case['max_length']} of the tokens that the tokenizer makes "
                "of the text: the end cut off, or padded on the side that it pads on."
            )
            _expect_numbers(trial, f"{row}: input_ids", told["input_ids"], ids, why=why)
            why = "It is 1 on every token of the text and 0 on the padding."
            _expect_numbers(trial, f"{row}: attention_mask", told["attention_mask"], mask, why=why)


@check("tokenize", review="Padding and truncation", after=("every_row_of_max_length",))
def tokenizer_left_alone(trial: Trial) -> None:
    """`tokenize` uses the tokenizer and changes none of its settings."""
    cases = [_mixed_texts(trial), _short_texts(trial), _mixed_texts(trial, side="left")]
    asked = [_asked_tokenize(case) for case in cases]
    came = trial.observe("settings_afterwards", cases=cases)
    why = "The tokenizer is the caller's. What is for one call is an argument of that call."
    for question, answer, case in zip(asked, _each(trial, asked, came), cases, strict=True):
        for name, before in _settings(case["tokenizer"]).items():
            left = answer[name]
            told = f"the tokenizer's {name} was {before} and is {shorten(left)} afterwards"
            trial.require(same(left, before), question, told, why=why)


# ----------------------------------------------------------------------------------- make_collator
@check("make_collator", review="Collators and labels")
def labels_are_the_inputs_but_for_padding(trial: Trial) -> None:
    """`make_collator` batches rows; labels are the inputs, with -100 on the padding alone."""
    pads = ["own", "none", "first"]
    cases = [_rows(trial, pad=pad, ended=pad != "none") for pad in pads]
    came = trial.observe("collated", cases=cases)
    asked = [_asked_collator(case) for case in cases]
    for question, answer, case in zip(asked, _each(trial, asked, came), cases, strict=True):
        batch = _batch(trial, question, answer)
        for name, truth in _true_batch(case).items():
            trial.require(
                name in batch, question, f"a batch of {', '.join(sorted(batch))} came back",
                why="A batch for training has input_ids, attention_mask and labels.",
            )  # fmt: skip
            why = _why_tensor(name)
            whole = isinstance(batch[name], Array)
            kind = type(batch[name]).__name__
            trial.require(whole, f"{question}: {name}", f"a {kind} came back, no tensor", why=why)
            _expect_rows(trial, f"{question}: {name}", batch[name], truth, why=why)
        dtype = batch["labels"].dtype
        trial.require(
            dtype == "int64", f"{question}: labels", f"they are {dtype}",
            why="Torch's cross-entropy takes labels as int64.",
        )  # fmt: skip


@check(
    "make_collator",
    review="What pad = eos costs",
    level="advice",
    after=("labels_are_the_inputs_but_for_padding",),
)
def a_real_end_has_a_label(trial: Trial) -> None:
    """With eos as the pad token, an eos that ends a text still has its label."""
    case = _rows(trial, pad="none", ended=True)
    asked = _asked_collator(case)
    (answer,) = _each(trial, [asked], trial.observe("collated", cases=[case]))
    labels = _batch(trial, asked, answer)["labels"]
    true = _true_batch(case)["labels"]
    ends = true == case["tokenizer"]["vocabulary"].index(case["tokenizer"]["eos"])
    kept = int((to_tensor(labels)[ends] != IGNORED).sum())
    trial.require(
        kept == int(ends.sum()),
        asked,
        f"{int(ends.sum())} rows end in a real eos, and {kept} of these have a label",
        why="What is never a label is never learned: the model will not know when to stop.",
    )
    _expect_rows(trial, f"{asked}: labels", labels, true, why=_why_tensor("labels"))


# --------------------------------------------------------------------------------- what is drawn
def _folder(trial: Trial, shards: int) -> dict[str, Any]:
    """Draw a data folder: its files, by path, with their rows, and how many rows to ask for.

    With more than one shard the rows asked for are more than the first shard has.
    """
    draw = trial.random
    kind, below = draw.choice(["jsonl", "csv", "parquet"]), draw.choice(["", "data/"])
    files: dict[str, list[dict[str, str]]] = {}
    sizes = {"train": draw.randint(30, 45), "test": draw.randint(24, 28)}
    for split, size in sizes.items():
        rows = [{column: _sentence(trial, 3, 9) for column in COLUMNS} for _ in range(size)]
        if shards == 1:
            files[f"{below}{split}.{kind}"] = rows
            continue
        cuts = [size * shard // shards for shard in range(shards + 1)]
        for shard, (start, end) in enumerate(itertools.pairwise(cuts)):
            files[f"{below}{split}-{shard:05}-of-{shards:05}.{kind}"] = rows[start:end]
    first = -(-sizes["train"] // shards)
    n = draw.randint(5, 12) if shards == 1 else draw.randint(first + 1, 24)
    return {"files": files, "n": n}


def _tokenizer(
    trial: Trial, *, pad: str, adds_bos: bool = False, side: str = "right"
) -> dict[str, Any]:
    """Draw what `scene.tokenizer_of` is given, with 24 words.

    Args:
        trial: Whose generator is used.
        pad: ``"none"``: it has no pad token; ``"first"``: the pad token's id is 0; ``"own"``: it is
            any but that.
        adds_bos: Whether it puts bos before each text.
        side: The side that it pads on.
    """
    bos, eos, padding = trial.random.choice(SPECIAL)
    first, *words = trial.random.sample(WORDS, 24)
    rest = [*words, UNKNOWN, bos, eos, *([first] if pad == "first" else [])]
    rest += [padding] if pad == "own" else []
    trial.random.shuffle(rest)
    return {
        "vocabulary": [padding if pad == "first" else first, *rest],
        "unk": UNKNOWN,
        "bos": bos,
        "eos": eos,
        "pad": None if pad == "none" else padding,
        "longest": trial.random.randint(20, 26),
        "adds_bos": adds_bos,
        "side": side,
    }


def _sentence(trial: Trial, least: int, most: int, words: list[str] = WORDS) -> str:
    return " ".join(trial.random.choices(words, k=trial.random.randint(least, most)))


def _texts(trial: Trial, tokenizer: dict[str, Any], lengths: list[int]) -> list[str]:
    """Draw texts of so many words; some are not in the vocabulary."""
    known = [word for word in WORDS if word in tokenizer["vocabulary"]]
    return [_sentence(trial, length, length, [*known, "zeppelin"]) for length in lengths]


def _mixed_texts(trial: Trial, side: str = "right") -> dict[str, Any]:
    """Draw a case for `tokenize` with a tokenizer like Llama's: texts longer, shorter and as long.

    Longer than the tokenizer's own limit are none.
    """
    draw = trial.random
    tokenizer = _tokenizer(trial, pad=draw.choice(["own", "first"]), adds_bos=True, side=side)
    length = draw.randint(10, 13)
    lengths = [length - 1, *(length + draw.randint(1, 6) for _ in range(2))]
    lengths += draw.sample(range(3, length - 2), 3)
    draw.shuffle(lengths)
    return _case(trial, tokenizer, _texts(trial, tokenizer, lengths), length)


def _short_texts(trial: Trial) -> dict[str, Any]:
    """Draw a case for `tokenize` whose pad token is eos: short texts, some with a real eos."""
    draw = trial.random
    tokenizer = _tokenizer(trial, pad="none")
    tokenizer["pad"] = tokenizer["eos"]
    length = draw.randint(12, 15)
    texts = _texts(trial, tokenizer, draw.sample(range(2, length - 3), 5))
    texts = [f"{text} {tokenizer['eos']}" if i % 2 else text for i, text in enumerate(texts)]
    return _case(trial, tokenizer, texts, length)


def _case(
    trial: Trial, tokenizer: dict[str, Any], texts: list[str], max_length: int
) -> dict[str, Any]:
    columns = {column: [_sentence(trial, 3, 8) for _ in texts] for column in COLUMNS[:-1]}
    return {
        "tokenizer": tokenizer,
        "columns": {**columns, "text": texts},
        "max_length": max_length,
    }


def _rows(trial: Trial, *, pad: str, ended: bool) -> dict[str, Any]:
    """Draw rows as `tokenize` returns them, one of them full; ``ended``: some texts end in eos.

    With ``pad`` "none" the pad token is eos. The length is a multiple of 8, so that a collator may
    round up to one.
    """
    draw = trial.random
    tokenizer = _tokenizer(trial, pad=pad, adds_bos=True)
    tokenizer["pad"] = tokenizer["pad"] or tokenizer["eos"]
    length = draw.choice([16, 24])
    lengths = [length - 1, *draw.sample(range(4, length - 3), 3)]
    texts = _texts(trial, tokenizer, lengths)
    if ended:
        texts = [f"{text} {tokenizer['eos']}" for text in texts[:-1]] + texts[-1:]
        texts[0] = texts[0].split(" ", 1)[1]  # full, and its end is the last token
    draw.shuffle(texts)
    rows = [dict(zip(sorted(TWO, reverse=True), _encoded(text, tokenizer, length), strict=True))
            for text in texts]  # fmt: skip
    return {"tokenizer": tokenizer, "rows": rows}


# ------------------------------------------------------------------------------------- the truth
def _train(folder: dict[str, Any]) -> list[dict[str, str]]:
    return [row for name, rows in folder["files"].items() if "train" in name for row in rows]


def _ids(text: str, tokenizer: dict[str, Any]) -> list[int]:
    """Return the ids of a text's tokens, as many as there are."""
    vocabulary = tokenizer["vocabulary"]
    tokens = ([tokenizer["bos"]] if tokenizer["adds_bos"] else []) + text.split()
    return [vocabulary.index(token if token in vocabulary else UNKNOWN) for token in tokens]


def _encoded(text: str, tokenizer: dict[str, Any], max_length: int) -> tuple[list[int], list[int]]:
    """Return ids and mask of a text, of ``max_length``, padded on the tokenizer's side."""
    ids = _ids(text, tokenizer)[:max_length]
    missing = max_length - len(ids)
    padding = missing * [tokenizer["vocabulary"].index(tokenizer["pad"])]
    if tokenizer["side"] == "left":
        return padding + ids, missing * [0] + len(ids) * [1]
    return ids + padding, len(ids) * [1] + missing * [0]


def _settings(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return what the scene `settings_afterwards` tells of a tokenizer that was only used."""
    return {
        "padding_side": tokenizer["side"],
        "truncation_side": "right",
        "model_max_length": tokenizer["longest"],
        **{f"{name}_token": tokenizer[name] for name in ("pad", "bos", "eos", "unk")},
        "number of tokens": len(tokenizer["vocabulary"]),
    }


def _true_batch(case: dict[str, Any]) -> dict[str, Tensor]:
    ids, mask = (torch.tensor([row[name] for row in case["rows"]]) for name in reversed(TWO))
    labels = torch.where(mask == 1, ids, IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _expect_padding(trial: Trial, tokenizers: list[dict[str, Any]], why: str) -> None:
    """Raise `Failure` unless the tokenizers that came back pad as they should."""
    lengths = trial.random.sample(range(3, 9), 3)
    texts = [_sentence(trial, length, length) for length in lengths]
    came = trial.observe("prepared", tokenizers=tokenizers, texts=texts)
    asked = [_asked_tokenizer(told) for told in tokenizers]
    for question, answer, told in zip(asked, _each(trial, asked, came), tokenizers, strict=True):
        kind = answer["type"]
        given = f"{_named(kind)} came back"
        trial.require(kind == "tokenizer", question, given, why="A tokenizer is asked for.")
        size = len(told["vocabulary"])
        trial.expect(
            f"{question}: its number of tokens", answer["size"], size,
            why=f"It had {size}, and a model has just as many rows for them.",
        )  # fmt: skip
        for name in ("bos", "eos", "unk"):
            token = told["vocabulary"].index(told[name])
            about = f"{question}: its {name}_token_id"
            trial.expect(about, answer["special"][name], token, why="It was to stay as it was.")
        padding = {**told, "pad": told["pad"] or told["eos"]}
        rows = [_encoded(text, padding, max(lengths)) for text in texts]
        padded = answer["padded"]
        pads = f"{question}, then padding three texts"
        if isinstance(padded, Raised):
            trial.fail(pads, padded)
        for number, (ids, mask) in enumerate(rows):
            row = f"{pads}: text {number}, of {sum(mask)} tokens"
            _expect_numbers(trial, f"{row}: input_ids", padded["input_ids"][number], ids, why=why)
            came_mask = padded["attention_mask"][number]
            _expect_numbers(trial, f"{row}: attention_mask", came_mask, mask, why=why)


# ------------------------------------------------------------------------------------- the words
def _each(trial: Trial, asked: list[str], came: Plain) -> list[Any]:
    """Return the answers, one for each question; raise `Failure` for the first that was raised."""
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    assert isinstance(came, list)
    assert len(came) == len(asked)
    for question, answer in zip(asked, came, strict=True):
        if isinstance(answer, Raised):
            trial.fail(question, answer)
    return came


def _require_dataset(trial: Trial, asked: str, answer: dict[str, Any], why: str) -> None:
    kind = answer["type"]
    trial.require(kind == "Dataset", asked, f"{_named(kind)} came back, no Dataset", why=why)


def _expect_numbers(trial: Trial, asked: str, came: Any, truth: list[int], why: str) -> None:
    """Raise `Failure` unless the list that came back is the true one; show both of its ends.

    A mask may be of bools; floats are no ids.
    """
    whole = isinstance(came, list) and all(isinstance(one, int) for one in came)
    numbers = [int(one) for one in came] if whole else None
    trial.require(numbers == truth, asked, f"came back: {_ends(came)}", why=why)


def _expect_rows(trial: Trial, asked: str, came: Array, truth: Tensor, why: str) -> None:
    """Raise `Failure` unless the tensor that came back is the true one; show a row that is not."""
    tensor, shape = to_tensor(came), f"a tensor of shape {came.shape} and type {came.dtype}"
    alike = tensor.shape == truth.shape and not tensor.is_floating_point()
    trial.require(alike, asked, f"came back: {shape}", why=why)
    for number, (row, true) in enumerate(zip(tensor.tolist(), truth.tolist(), strict=True)):
        _expect_numbers(trial, f"{asked} of row {number}", row, true, why=why)


def _batch(trial: Trial, asked: str, answer: dict[str, Any]) -> dict[str, Any]:
    made = answer.get("collator")
    trial.require(
        made is None, asked.replace("(rows)", ""),
        f"{_named(made)} came back, which cannot be called",
        why="A function that takes the rows is asked for.",
    )  # fmt: skip
    kind = answer.get("type")
    trial.require(
        kind is None, asked, f"{_named(kind)} came back, no dict",
        why="A batch is a dict of tensors, to be called as model(**batch).",
    )  # fmt: skip
    batch = answer["batch"]
    assert isinstance(batch, dict)
    return batch


def _why_tensor(name: str) -> str:
    if name != "labels":
        return "It should be the rows' own, one below the other, as a tensor of whole numbers."
    return (
        "The labels are a copy of the inputs, in their places (the model shifts), with -100 where "
        "the attention mask is 0."
    )


def _named(kind: str | None) -> str:
    """Return how a type of what came back is told."""
    if kind == "NoneType":
        return "None (is there a `return`?)"
    return f"something of type {kind}"


def _ends(numbers: Any) -> str:
    """Return a row's first and last numbers: padding is at an end."""
    if not isinstance(numbers, list):
        return shorten(numbers)
    told = [shorten(number) for number in numbers[:4] + numbers[4:][-4:]]
    if len(numbers) > len(told):
        told.insert(4, "…")
    return clean(f"[{', '.join(told)}] ({len(numbers)} items)")


def _shown(rows: Any) -> str:
    if not rows:
        return "nothing in it"
    names = [name for name in COLUMNS if name not in rows[0]]
    if names:
        return f"no {', '.join(names)}"
    return f"the text {clean(repr(rows[0]['text']), 60)}"


def _asked_folder(folder: dict[str, Any]) -> str:
    names = list(folder["files"])
    train = ", ".join(name for name in names if "train" in name)
    return f"load_examples(path, {folder['n']}) for a folder with {train} and test files"


def _asked_tokenizer(told: dict[str, Any]) -> str:
    pad = (
        f"pad token {told['pad']}, id {told['vocabulary'].index(told['pad'])}"
        if told["pad"]
        else ""
    )
    return f"prepare_tokenizer(path) for a tokenizer with {pad or 'no pad token'}"


def _asked_tokenize(case: dict[str, Any]) -> str:
    count = len(case["columns"]["text"])
    call = f"tokenize(dataset, tokenizer, {case['max_length']}) for {count} rows"
    return f"{call} and a tokenizer that pads on the {case['tokenizer']['side']}"


def _asked_collator(case: dict[str, Any]) -> str:
    rows, told = case["rows"], case["tokenizer"]
    shape = f"{len(rows)} rows of {len(rows[0]['input_ids'])}"
    also = ", which is eos" if told["pad"] == told["eos"] else ""
    return f"make_collator(tokenizer)(rows) for {shape}, pad token {told['pad']}{also}"

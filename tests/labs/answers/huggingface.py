"""The Hugging Face lab's functions in other words, right and wrong."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, ReadInstruction, concatenate_datasets, load_dataset
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    default_data_collator,
)

# --- load_examples, right -------------------------------------------------------------------------


def load_and_select(path, n):
    return load_dataset(path)["train"].select(range(n))


def load_and_take(path, n):
    return load_dataset(path, split="train", keep_in_memory=True).take(n)


def load_by_instruction(path, n):
    return load_dataset(path, split=ReadInstruction("train", to=n, unit="abs"))


def load_as_stream(path, n):
    stream = load_dataset(path, split="train", streaming=True)
    return Dataset.from_list(list(stream.take(n)))


def load_from_slice(path, n):
    return Dataset.from_dict(load_dataset(path=path, split="train")[:n]).with_format("torch")


def load_by_pandas(path, n):
    readers = {".jsonl": functools.partial(pd.read_json, lines=True), ".csv": pd.read_csv}
    files = sorted(file for file in Path(path).rglob("train*"))
    frames = [readers.get(file.suffix, pd.read_parquet)(file) for file in files]
    rows = pd.concat(frames, ignore_index=True).head(n)
    return Dataset.from_pandas(rows[sorted(rows)], preserve_index=False)


# --- prepare_tokenizer, right ---------------------------------------------------------------------


def prepare_by_id(path):
    tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def prepare_by_or(path):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def prepare_by_special_tokens(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    if "pad_token" not in tokenizer.special_tokens_map:
        tokenizer.add_special_tokens({"pad_token": tokenizer.eos_token})
    return tokenizer


def prepare_by_loading_again(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token is not None:
        return tokenizer
    return AutoTokenizer.from_pretrained(path, pad_token=tokenizer.eos_token)


# --- tokenize, right ------------------------------------------------------------------------------


def tokenize_one_by_one(dataset, tokenizer, max_length):
    def encode(row):
        return tokenizer(row["text"], truncation=True, padding="max_length", max_length=max_length)

    return dataset.map(encode, remove_columns=["instruction", "input", "output", "text"])


def tokenize_to_tensors(dataset, tokenizer, max_length):
    how = {"truncation": "longest_first", "padding": "max_length", "return_tensors": "pt"}
    texts = dataset.select_columns("text")
    found = texts.map(
        lambda rows: tokenizer(rows["text"], max_length=max_length, **how),
        batched=True,
        batch_size=2,
        remove_columns="text",
    )
    return found.with_format("torch")


def tokenize_and_show_two(dataset, tokenizer, max_length):
    found = dataset.map(
        tokenizer,
        input_columns="text",
        batched=True,
        fn_kwargs={"truncation": True, "padding": "max_length", "max_length": max_length},
    )
    found.set_format("numpy", columns=["attention_mask", "input_ids"])
    return found


def tokenize_in_memory(dataset, tokenizer, max_length):
    encoding = tokenizer(
        list(dataset["text"]), truncation=True, padding="max_length", max_length=max_length
    )
    return Dataset.from_dict(encoding)


def tokenize_by_hand(dataset, tokenizer, max_length):
    rows = []
    for text in dataset["text"]:
        ids = tokenizer.encode(text)[:max_length]
        rest = max_length - len(ids)
        parts = [(ids, [1] * len(ids)), ([tokenizer.pad_token_id] * rest, [0] * rest)]
        if tokenizer.padding_side == "left":
            parts.reverse()
        (ids, mask), (more, no_mask) = parts
        rows.append({"attention_mask": mask + no_mask, "input_ids": ids + more})
    return Dataset.from_list(rows)


def tokenize_with_a_copy(dataset, tokenizer, max_length):
    own = copy.deepcopy(tokenizer)
    own.model_max_length = max_length
    return tokenize_one_by_one(dataset, own, max_length)


def tokenize_and_set_back(dataset, tokenizer, max_length):
    longest, tokenizer.model_max_length = tokenizer.model_max_length, max_length
    try:
        return dataset.map(
            lambda rows: tokenizer(rows["text"], truncation=True, padding="max_length"),
            batched=True,
            remove_columns=dataset.column_names,
        )
    finally:
        tokenizer.model_max_length = longest


def tokenize_when_read(dataset, tokenizer, max_length):
    return dataset.with_transform(
        lambda rows: tokenizer(
            rows["text"], truncation=True, padding="max_length", max_length=max_length
        )
    )


# --- make_collator, right -------------------------------------------------------------------------


def collator_of_the_library(tokenizer):
    return DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=False)


def collator_in_eights(tokenizer):
    return DataCollatorForLanguageModeling(tokenizer, mlm=False, pad_to_multiple_of=8)


def collator_that_pads(tokenizer):
    def collate(rows):
        batch = tokenizer.pad(rows, return_tensors="pt")
        batch["labels"] = batch["input_ids"].clone()
        batch["labels"][batch["attention_mask"] == 0] = -100
        return batch

    return collate


def collator_by_default_one(tokenizer):
    def collate(rows):
        for row in rows:
            pairs = zip(row["input_ids"], row["attention_mask"], strict=True)
            row["labels"] = [token if kept else -100 for token, kept in pairs]
        return default_data_collator(rows)

    return collate


def collator_that_trims(tokenizer):
    def collate(rows):
        longest = max(sum(row["attention_mask"]) for row in rows)
        ids = torch.as_tensor(np.array([row["input_ids"][:longest] for row in rows]))
        mask = torch.as_tensor(np.array([row["attention_mask"][:longest] for row in rows]))
        labels = torch.where(mask.bool(), ids, torch.tensor(-100))
        return {"labels": labels, "input_ids": ids.int(), "attention_mask": mask.bool()}

    return collate


class CollatorWithFirstEnd:
    """Tells padding by its id, but for the first of a row: when pad is eos that is a real one."""

    def __init__(self, tokenizer):
        self.pad = tokenizer.pad_token_id

    def __call__(self, rows):
        batch = default_data_collator(rows)
        padding = batch["attention_mask"].cumsum(1) == batch["attention_mask"].sum(1, keepdim=True)
        padding &= batch["attention_mask"] == 0
        batch["labels"] = batch["input_ids"].masked_fill(padding, -100)
        return batch


RIGHT = {
    "load_examples": (
        load_and_select,
        load_and_take,
        load_by_instruction,
        load_as_stream,
        load_from_slice,
        load_by_pandas,
    ),
    "prepare_tokenizer": (
        prepare_by_id,
        prepare_by_or,
        prepare_by_special_tokens,
        prepare_by_loading_again,
    ),
    "tokenize": (
        tokenize_one_by_one,
        tokenize_to_tensors,
        tokenize_and_show_two,
        tokenize_in_memory,
        tokenize_by_hand,
        tokenize_with_a_copy,
        tokenize_and_set_back,
        tokenize_when_read,
    ),
    "make_collator": (
        collator_of_the_library,
        collator_in_eights,
        collator_that_pads,
        collator_by_default_one,
        collator_that_trims,
        CollatorWithFirstEnd,
    ),
}


# --- wrong ----------------------------------------------------------------------------------------


def load_all_splits(path, n):
    both = load_dataset(path)
    return concatenate_datasets([both["train"], both["test"]])


def load_first_row_skipped(path, n):
    return load_dataset(path, split=f"train[1:{n + 1}]")


def load_with_a_column_more(path, n):
    rows = load_dataset(path, split=f"train[:{n}]")
    return rows.add_column("number", list(range(n)))


def load_a_column_lost(path, n):
    return load_dataset(path, split=f"train[:{n}]").remove_columns("input")


def load_upper_case(path, n):
    rows = load_dataset(path, split=f"train[:{n}]")
    return rows.map(lambda row: {"text": row["text"].upper()})


def load_frame(path, n):
    return load_dataset(path, split=f"train[:{n}]").to_pandas()


def prepared_and(change):
    def prepare(path):
        tokenizer = prepare_by_id(path)
        return change(tokenizer) or tokenizer

    return prepare


def begins_with_the_end(tokenizer):
    tokenizer.bos_token = tokenizer.eos_token


def end_is_the_pad(tokenizer):
    tokenizer.eos_token = tokenizer.unk_token


def more_tokens(tokenizer):
    tokenizer.add_tokens(["aardvark"])


def tokenized_and(change=lambda row: row, **how):
    """Return a way of tokenizing that is right but for an argument or a change of each row."""

    def tokenize(dataset, tokenizer, max_length):
        usual = {"truncation": True, "padding": "max_length", "max_length": max_length}

        def encode(row):
            found = dict(tokenizer(row["text"], **(usual | how)))
            return change(found)

        return dataset.map(encode, remove_columns=dataset.column_names)

    return tokenize


def one_token_short(dataset, tokenizer, max_length):
    return tokenize_one_by_one(dataset, tokenizer, max_length - 1)


def start_cut_off(dataset, tokenizer, max_length):
    tokenizer.truncation_side = "left"
    return tokenize_one_by_one(dataset, tokenizer, max_length)


def padded_with_unknown(dataset, tokenizer, max_length):
    tokenizer.pad_token = tokenizer.unk_token
    return tokenize_one_by_one(dataset, tokenizer, max_length)


def then(change):
    """Return a way of tokenizing that is right and changes the tokenizer afterwards."""

    def tokenize(dataset, tokenizer, max_length):
        rows = tokenize_one_by_one(dataset, tokenizer, max_length)
        change(tokenizer)
        return rows

    return tokenize


def sides_exchanged(tokenizer):
    tokenizer.padding_side = {"left": "right", "right": "left"}[tokenizer.padding_side]


def long_texts_dropped(dataset, tokenizer, max_length):
    kept = dataset.filter(lambda row: len(tokenizer(row["text"])["input_ids"]) <= max_length)
    return tokenize_one_by_one(kept, tokenizer, max_length)


def rest_of_long_texts_kept(dataset, tokenizer, max_length):
    return dataset.map(
        lambda rows: {
            name: value
            for name, value in tokenizer(
                rows["text"],
                truncation=True,
                padding="max_length",
                max_length=max_length,
                return_overflowing_tokens=True,
            ).items()
            if name in ("input_ids", "attention_mask")
        },
        batched=True,
        remove_columns=dataset.column_names,
    )


def collated_and(change):
    """Return a collator that is right but for a change of its batch."""

    def make(tokenizer):
        def collate(rows):
            batch = dict(collator_that_pads(tokenizer)(rows))
            return change(batch) or batch

        return collate

    return make


def labels_of(function):
    def change(batch):
        batch["labels"] = function(batch["labels"], batch["input_ids"], batch["attention_mask"])

    return collated_and(change)


WRONG = {
    "load_examples": (
        load_all_splits,
        load_first_row_skipped,
        load_with_a_column_more,
        load_a_column_lost,
        load_upper_case,
        load_frame,
        lambda path, n: path,
    ),
    "prepare_tokenizer": (
        prepared_and(begins_with_the_end),
        prepared_and(end_is_the_pad),
        prepared_and(more_tokens),
        prepared_and(lambda tokenizer: (tokenizer, tokenizer.pad_token)),
        prepared_and(lambda tokenizer: tokenizer.backend_tokenizer),
        lambda path: path,
    ),
    "tokenize": (
        one_token_short,
        start_cut_off,
        padded_with_unknown,
        then(sides_exchanged),
        then(begins_with_the_end),
        then(more_tokens),
        long_texts_dropped,
        rest_of_long_texts_kept,
        tokenized_and(return_special_tokens_mask=True),
        tokenized_and(lambda row: {**row, "input_ids": row["input_ids"][::-1]}),
        tokenized_and(
            lambda row: {**row, "attention_mask": [1 - m for m in row["attention_mask"]]}
        ),
        lambda dataset, tokenizer, max_length: dataset.select_columns(["text"]),
    ),
    "make_collator": (
        labels_of(lambda labels, ids, mask: labels.masked_fill(labels == -100, -1)),
        labels_of(lambda labels, ids, mask: labels.int()),
        labels_of(lambda labels, ids, mask: labels.masked_fill(ids == ids[0, 1], -100)),
        labels_of(lambda labels, ids, mask: torch.cat([labels[:, 1:], labels[:, -1:]], 1)),
        labels_of(lambda labels, ids, mask: labels[:1]),
        labels_of(lambda labels, ids, mask: labels.flatten()),
        labels_of(lambda labels, ids, mask: ids.masked_fill(ids != 0, -100)),
        collated_and(lambda batch: {**batch, "input_ids": batch["input_ids"].flip(0)}),
        collated_and(lambda batch: {**batch, "attention_mask": 1 - batch["attention_mask"]}),
        collated_and(lambda batch: tuple(batch.values())),
        lambda tokenizer: DataCollatorForLanguageModeling,
        lambda tokenizer: collator_that_pads(tokenizer)([]),
        lambda tokenizer: lambda rows: rows[0],
    ),
}

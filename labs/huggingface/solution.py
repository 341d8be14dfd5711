"""The reference solution of the Hugging Face lab: from a folder of texts to a batch with labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, load_dataset
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

IGNORED = -100  # the label that torch's cross-entropy leaves out


def load_examples(path: str, n: int) -> Dataset:
    """Return the first ``n`` rows of a data set's train split, in order, with all columns.

    A slice in the split's name is read by the library: it takes what is there when there are fewer
    rows, where ``select(range(n))`` raises `IndexError`.

    Args:
        path: A local folder as `datasets.load_dataset` reads it: files or shards whose names (or
            whose folders' names) tell the split.
        n: At most the number of rows of the train split.

    Raises:
        datasets.exceptions.DataFilesNotFoundError: no file in the folder is of a known format.
    """
    dataset = load_dataset(path, split=f"train[:{n}]")
    assert isinstance(dataset, Dataset)
    return dataset


def prepare_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer in the folder ``path`` with a pad token: eos if it has none of its own.

    No token is added, so every id is still a row of the model's embedding.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenize(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Return the tokens of the column ``text``: a row for each row, each ``max_length`` long.

    Returns:
        The columns ``input_ids`` (ints; the tokenizer's pad token, on its own padding side, fills
        what is missing; what is too long loses its end) and ``attention_mask`` (1, and 0 on the
        padding), and no others.
    """

    def encode(rows: Mapping[str, list[str]]) -> dict[str, Any]:
        encoded = tokenizer(
            rows["text"], truncation=True, padding="max_length", max_length=max_length
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    return dataset.map(encode, batched=True, remove_columns=dataset.column_names)


def make_collator(
    tokenizer: PreTrainedTokenizerBase,  # noqa: ARG001 - the rows are padded already
) -> Callable[[Sequence[Mapping[str, list[int]]]], dict[str, Tensor]]:
    """Return a function that makes B rows of length T a batch for causal language modelling.

    The batch has ``input_ids``, ``attention_mask`` and ``labels``, each (B, T) int64. The labels
    are the inputs, not shifted (the model does that), and -100 on the padding. Padding is told by
    the attention mask: when the pad token is eos, its id cannot tell it from a real end.

    Args:
        tokenizer: Not needed here; the library's collators ask it for the pad token.
    """

    def collate(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Tensor]:
        input_ids = torch.tensor([row["input_ids"] for row in rows])
        attention_mask = torch.tensor([row["attention_mask"] for row in rows])
        labels = input_ids.masked_fill(attention_mask == 0, IGNORED)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    return collate

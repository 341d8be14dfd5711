# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Hugging Face: dataset loading and tokenization
#
# Four functions, each a few lines: from a folder of texts to a batch that a model can be trained
# on. Replace every `raise NotImplementedError`, then run `invoke verify --skill huggingface` in a
# terminal. The lesson, `README.md`, has everything that is needed; each section of it is named
# where it helps.
#
# Only the functions below and what they use are verified. The cells after *try it* are yours:
# select all in one, uncomment it (Ctrl+/) and run it. They need each other, from top to bottom.

# %%
from __future__ import annotations

from collections.abc import Callable

import torch
from datasets import Dataset, load_dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

# %% [markdown]
# ## 1. The first rows of a data set
#
# From the *train* split of a local folder, as many as are asked for, in their order and with all
# their columns. The folder may hold JSON lines, CSV or Parquet, in one file per split or in several
# shards, so leave finding the files to the library. (Lesson: *Data sets, splits and slices*.)


# %%
def load_examples(path: str, n: int) -> Dataset:
    """Return the first n rows of the train split of the data set in a folder.

    Args:
        path: A folder with files for the splits train and test.
        n: How many rows; never more than there are.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it* on the data set that the lab brings along: a Dataset of 100 rows and four columns.

# %%
# from labs import assets
#
# examples = load_examples(assets.data(), 100)
# print(examples)
# print(examples[0]["text"])

# %% [markdown]
# ## 2. A tokenizer that can pad
#
# Load it. If it has no pad token, make its token for the end the pad token; if it has one, whatever
# that is, leave it. Everything else stays as it comes. (Lesson: *The pad token*.)


# %%
def prepare_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a folder, with a pad token: its own, or eos if it has none.

    Args:
        path: A folder that holds a tokenizer.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it* on two tokenizers, one with and one without a pad token.

# %%
# for kind in ("pad", "no-pad"):
#     loaded = prepare_tokenizer(assets.tokenizer(kind))
#     print(kind, loaded.pad_token, loaded(["one", "one and two"], padding=True)["input_ids"])

# %% [markdown]
# ## 3. From texts to rows of one length
#
# Tokenize the column `text`, just as it is. Every text becomes a row of *exactly* `max_length` ids:
# what is longer loses its end, what is shorter is padded, on the side that the tokenizer pads on.
# The result has the two columns `input_ids` and `attention_mask` and no others. Only use the
# tokenizer: its settings are the caller's.
# (Lesson: *Padding and truncation*.)


# %%
def tokenize(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Return a Dataset with the ids and the attention mask of each row's text.

    Args:
        dataset: It has a column `text`, and others.
        tokenizer: It has a pad token.
        max_length: The length of every row.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: two columns, and 32 ids in every row.

# %%
# loaded = prepare_tokenizer(assets.tokenizer("no-pad"))
# rows = tokenize(examples, loaded, 32)
# print(rows)
# print(rows[0])

# %% [markdown]
# ## 4. From rows to a batch with labels
#
# Return a *function* (or any object that can be called) that turns a list of rows, as `tokenize`
# makes them, into a batch for a causal language model: a mapping of tensors, `input_ids`,
# `attention_mask` and `labels`, each of shape (rows, length). The labels are the inputs, not
# shifted, with -100 on the padding. You may use the library's collator or write your own.
# (Lesson: *Collators and labels*; *What pad = eos costs* says what to watch.)


# %%
Row = dict[str, list[int]]


def make_collator(
    tokenizer: PreTrainedTokenizerBase,
) -> Callable[[list[Row]], dict[str, torch.Tensor]]:
    """Return a collator for causal language modelling: from a list of rows to a batch.

    A row is a dict of two lists of ints of the same length: `input_ids` and `attention_mask`, which
    is 0 on the padding.

    Args:
        tokenizer: The one that made the rows; it has a pad token.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: a batch of four rows, and the loss of an untrained model, near the logarithm of the
# number of tokens.

# %%
# from transformers import AutoModelForCausalLM
#
# batch = make_collator(loaded)([rows[i] for i in range(4)])
# print({name: tensor.shape for name, tensor in batch.items()})
# print(batch["labels"][0])
# untrained = AutoModelForCausalLM.from_pretrained(assets.random_model("llama"))
# print(untrained(**batch).loss, torch.tensor(float(len(loaded))).log())

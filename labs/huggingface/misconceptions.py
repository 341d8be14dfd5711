"""The known mistakes of the Hugging Face lab; each docstring is the hint a learner reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, load_dataset, load_from_disk
from torch import Tensor
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)

from verify.authoring import misconception

Tokens = PreTrainedTokenizerBase
Rows = Sequence[Mapping[str, list[int]]]
Batch = dict[str, Any]

# A check that waits for another one is played only when that one passed: these fail in one place.
COLUMNS, LENGTHS = ("two_columns_for_each_row",), ("every_row_of_max_length",)
SETTINGS = ("tokenizer_left_alone",)
LABELS, ENDS = ("labels_are_the_inputs_but_for_padding",), ("a_real_end_has_a_label",)
NO_PAD, OWN_PAD = ("pad_is_eos_where_there_is_none",), ("own_pad_token_is_left_alone",)


# --- load_examples --------------------------------------------------------------------------------


def _split(path: str, split: str = "train") -> Dataset:
    dataset = load_dataset(path, split=split)
    assert isinstance(dataset, Dataset)
    return dataset


@misconception("load_examples")
def load_examples_not_written(path: str, n: int) -> Dataset:
    """Start with `load_dataset(path, split=...)`: it takes a folder as it takes a name on the Hub,
    and the split's name may end in a slice. See "Data sets, splits and slices".
    """
    raise NotImplementedError


@misconception("load_examples")
def whole_split(path: str, n: int) -> Dataset:
    """That is the whole train split; `n` was not used. Slice it, in the split's name
    (`train[:100]`) or afterwards with `select`.
    """
    return _split(path)


@misconception("load_examples")
def last_rows(path: str, n: int) -> Dataset:
    """These are the last rows of the split. As with a list, `[:n]` is its beginning and `[-n:]` its
    end.
    """
    return _split(path, f"train[-{n}:]")


@misconception("load_examples")
def dataset_dict_returned(path: str, n: int) -> object:
    """Without `split`, `load_dataset` returns a DatasetDict: all splits, by name. Name the one you
    want (`split="train"`), or take it out of the dict.
    """
    return load_dataset(path)


@misconception("load_examples")
def dict_of_columns(path: str, n: int) -> object:
    """A slice of a Dataset (`dataset[:n]`) is a plain dict of columns, and can no more be mapped.
    `dataset.select(range(n))`, or the slice in the split's name, stays a Dataset.
    """
    return _split(path)[:n]


@misconception("load_examples")
def list_of_rows(path: str, n: int) -> list[Any]:
    """That is a list of rows. A Dataset was asked for, which stays on disk and is read as needed:
    use its own `select`, or the slice in the split's name.
    """
    dataset = _split(path)
    return [dataset[i] for i in range(n)]


@misconception("load_examples")
def streamed(path: str, n: int) -> object:
    """With `streaming=True` you get an IterableDataset, which has neither a length nor rows by
    number. It is for data too large for the disk; leave it out here.
    """
    return load_dataset(path, split="train", streaming=True).take(n)


@misconception("load_examples")
def rows_mixed(path: str, n: int) -> Dataset:
    """The rows are not those the split begins with, one after the other: they were shuffled
    (`shuffle`, or `train_test_split`, which shuffles too) or picked. Take the first n as they lie;
    shuffling is for training, and is the data loader's affair.
    """
    return _split(path).shuffle(seed=0).select(range(n))


@misconception("load_examples")
def test_split(path: str, n: int) -> Dataset:
    """These rows are of the test split. It is kept to measure with: a model that has trained on it
    cannot be judged by it any more.
    """
    return _split(path, f"test[:{n}]")


@misconception("load_examples")
def percent_of_the_split(path: str, n: int) -> Dataset:
    """`train[:n%]` is n per cent of the split. Without the per cent sign the number counts rows."""
    return _split(path, f"train[:{n}%]")


@misconception("load_examples")
def one_row_more(path: str, n: int) -> Dataset:
    """That is one row too many: `range(n)` and `[:n]` end before n, so neither needs a + 1."""
    return _split(path).select(range(n + 1))


@misconception("load_examples")
def file_named(path: str, n: int) -> Dataset:
    """A file was named that is not in every data set: formats differ, and large splits lie in
    several shards. Give `load_dataset` the folder, and it finds the files of the split itself.
    """
    return load_dataset("json", data_files=f"{path}/train.jsonl", split=f"train[:{n}]")


@misconception("load_examples")
def load_from_disk_used(path: str, n: int) -> Dataset:
    """`load_from_disk` reads only what `save_to_disk` has written (Arrow files). Data as people
    share it (JSON lines, CSV, Parquet) is read by `load_dataset`.
    """
    return load_from_disk(path)["train"].select(range(n))


@misconception("load_examples")
def hub_name_left_in(path: str, n: int) -> Dataset:
    """The name of a data set on the Hub was left in, and there is no Hub where this is verified.
    Load what `path` names: `load_dataset` takes a folder just as it takes a name.
    """
    return _split("tatsu-lab/alpaca", f"train[:{n}]")


@misconception("load_examples")
def only_the_text(path: str, n: int) -> Dataset:
    """Only the column `text` was kept. All of them were asked for; what a later step does not need
    it leaves out itself.
    """
    return _split(path, f"train[:{n}]").select_columns("text")


# --- prepare_tokenizer ----------------------------------------------------------------------------


def _loaded(path: str) -> Tokens:
    tokenizer: Tokens = AutoTokenizer.from_pretrained(path)
    return tokenizer


def _ready(path: str) -> Tokens:
    tokenizer = _loaded(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@misconception("prepare_tokenizer")
def prepare_tokenizer_not_written(path: str) -> Tokens:
    """Load it with `AutoTokenizer.from_pretrained`, then ask whether its `pad_token` is None. See
    "The pad token".
    """
    raise NotImplementedError


@misconception("prepare_tokenizer")
def another_models_tokenizer(path: str) -> Tokens:
    """The name of a model on the Hub was left in, and there is no Hub where this is verified. Load
    what `path` names: a tokenizer belongs to one model, and another's ids mean other tokens.
    """
    return _ready("meta-llama/Llama-3.1-8B")


@misconception("prepare_tokenizer", checks=NO_PAD)
def no_pad_token(path: str) -> Tokens:
    """The tokenizer has no pad token yet, so it cannot pad. GPT-2, Llama and others are published
    without one; set `tokenizer.pad_token`.
    """
    return _loaded(path)


@misconception("prepare_tokenizer", checks=NO_PAD)
def new_pad_token(path: str) -> Tokens:
    """A new token was added to the vocabulary. Its id is one past the last row of the model's
    embedding, which fails unless the embedding is resized; take eos, which is there.
    """
    tokenizer = _loaded(path)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    return tokenizer


@misconception("prepare_tokenizer", checks=NO_PAD)
def unknown_as_pad(path: str) -> Tokens:
    """It pads with the token for unknown words. Either that was set as the pad token, or a name was
    set that is not in the vocabulary (`"[PAD]"`), which comes to the same. Use the tokenizer's own
    `eos_token`.
    """
    tokenizer = _loaded(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token
    return tokenizer


@misconception("prepare_tokenizer", checks=NO_PAD)
def beginning_as_pad(path: str) -> Tokens:
    """It pads with the token for the beginning (`bos_token`). The one for the end was asked for,
    `eos_token`, as the libraries and most examples do it.
    """
    tokenizer = _loaded(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.bos_token
    return tokenizer


@misconception("prepare_tokenizer", checks=NO_PAD)
def token_0_as_pad(path: str) -> Tokens:
    """It pads with token 0, which in this vocabulary, as in GPT-2's and Llama 3's, is part of
    ordinary text. Only in some vocabularies is 0 the padding; use `eos_token`.
    """
    tokenizer = _loaded(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token_id = 0
    return tokenizer


@misconception("prepare_tokenizer", checks=NO_PAD)
def assigned_the_wrong_way_round(path: str) -> Tokens:
    """`eos_token` was overwritten with the pad token that is not there: the assignment is the wrong
    way round. What is to change stands on the left.
    """
    tokenizer = _loaded(path)
    if tokenizer.pad_token is None:
        tokenizer.eos_token = tokenizer.pad_token
    return tokenizer


@misconception("prepare_tokenizer")
def tokenizer_not_returned(path: str) -> None:
    """Nothing came back. Setting `pad_token` changes the tokenizer in place, and the function still
    has to return it.
    """
    _ready(path)


@misconception("prepare_tokenizer")
def pads_on_the_left(path: str) -> Tokens:
    """It pads on the left. That is for generating, where the answer must follow the prompt at once;
    for training leave `padding_side` as it is.
    """
    tokenizer = _ready(path)
    tokenizer.padding_side = "left"
    return tokenizer


@misconception("prepare_tokenizer", checks=OWN_PAD)
def pad_token_overwritten(path: str) -> Tokens:
    """The tokenizer had a pad token of its own, and it was overwritten with eos. Then padding and a
    real end look the same; set it only where `pad_token` is None.
    """
    tokenizer = _loaded(path)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@misconception("prepare_tokenizer", checks=OWN_PAD)
def pad_id_0_taken_for_none(path: str) -> Tokens:
    """A pad token whose id is 0 was taken for none: 0 is false in Python, so `if not pad_token_id`
    is true of it. Ask for `is None`.
    """
    tokenizer = _loaded(path)
    if not tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


# --- tokenize -------------------------------------------------------------------------------------


def _map(dataset: Dataset, encode: Callable[[Any], Any], *, batched: bool = True) -> Dataset:
    return dataset.map(encode, batched=batched, remove_columns=dataset.column_names)


def _encode(
    tokenizer: Tokens, max_length: int, column: str = "text", **changed: Any
) -> Callable[[Any], dict[str, Any]]:
    """Return what is mapped over the rows, right but for the arguments that are ``changed``."""
    usual = {"truncation": True, "padding": "max_length", "max_length": max_length}
    return lambda rows: dict(tokenizer(rows[column], **(usual | changed)))


@misconception("tokenize")
def tokenize_not_written(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """Write a function that tokenizes the column `text` of some rows and hand it to `dataset.map`.
    The four arguments it takes are in "Padding and truncation".
    """
    raise NotImplementedError


@misconception("tokenize", checks=COLUMNS)
def text_columns_left_in(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The text columns are still there: `map` adds columns. A collator cannot make tensors of text,
    so have them removed: `remove_columns=dataset.column_names`.
    """
    return dataset.map(_encode(tokenizer, max_length), batched=True)


@misconception("tokenize", checks=COLUMNS)
def only_text_removed(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """Only the column `text` was removed and the others are still there. Whatever a data set's
    columns are called, `remove_columns=dataset.column_names` removes them all.
    """
    return dataset.map(_encode(tokenizer, max_length), batched=True, remove_columns=["text"])


@misconception("tokenize", checks=COLUMNS)
def mapped_in_vain(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The data set is as it was. `map` changes nothing in place: it returns another Dataset, and
    that is the one to return.
    """
    _map(dataset, _encode(tokenizer, max_length))
    return dataset


@misconception("tokenize", checks=COLUMNS)
def labels_made_already(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """There is a column `labels` as well. Labels are the collator's affair, which knows what is
    padding; a plain copy of `input_ids` would have the padding learned.
    """

    def encode(rows: Any) -> dict[str, Any]:
        encoded = _encode(tokenizer, max_length)(rows)
        return {**encoded, "labels": encoded["input_ids"]}

    return _map(dataset, encode)


@misconception("tokenize", checks=COLUMNS)
def mask_left_out(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The attention mask is missing. Without it nobody knows what is padding: the model would read
    it as text. Keep both of what the tokenizer returns.
    """
    encode = _encode(tokenizer, max_length)
    return _map(dataset, lambda rows: {"input_ids": encode(rows)["input_ids"]})


@misconception("tokenize", checks=COLUMNS)
def encoding_returned(dataset: Dataset, tokenizer: Tokens, max_length: int) -> object:
    """That is what the tokenizer returned, a dict of columns all in memory. `dataset.map` calls the
    tokenizer for you, a thousand rows at a time, and its result is a Dataset.
    """
    how: Any = {"truncation": True, "padding": "max_length", "max_length": max_length}
    return tokenizer(dataset["text"][:], **how)


@misconception("tokenize", checks=COLUMNS)
def encodings_listed(dataset: Dataset, tokenizer: Tokens, max_length: int) -> object:
    """That is a list with one encoding for each row. `dataset.map` does the loop for you and
    returns a Dataset.
    """
    encode = _encode(tokenizer, max_length)
    return [encode(row) for row in dataset]


@misconception("tokenize", checks=COLUMNS)
def dataset_not_returned(dataset: Dataset, tokenizer: Tokens, max_length: int) -> None:
    """Nothing came back. `map` returns a new Dataset; return that."""
    _map(dataset, _encode(tokenizer, max_length))


@misconception("tokenize", checks=COLUMNS)
def texts_joined_to_blocks(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """All texts were joined and cut into blocks, so a row is no longer a text. That is how models
    are pretrained; here each row stays one example, cut or padded.
    """
    joined = [*itertools.chain(*tokenizer(dataset["text"][:])["input_ids"])]
    starts = range(0, len(joined) - max_length + 1, max_length)
    blocks = [joined[start : start + max_length] for start in starts]
    masks = [[1] * max_length for _ in blocks]
    return Dataset.from_dict({"input_ids": blocks, "attention_mask": masks})


@misconception("tokenize", checks=LENGTHS)
def no_truncation(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """Texts of more than `max_length` tokens were not cut off: `truncation=True` is missing."""
    return _map(dataset, _encode(tokenizer, max_length, truncation=False))


@misconception("tokenize", checks=LENGTHS)
def no_padding(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """Texts of fewer than `max_length` tokens were not filled up. Either `padding` is missing, or
    it is True, which pads to the longest text of those tokenized together, and that was one:
    `padding="max_length"`.
    """
    return _map(dataset, _encode(tokenizer, max_length, padding=False))


@misconception("tokenize", checks=LENGTHS)
def padded_to_the_longest(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """`padding=True` pads to the longest text of those tokenized together, which may be shorter
    than `max_length`. For a fixed length: `padding="max_length"`.
    """
    return _map(dataset, _encode(tokenizer, max_length, padding=True))


@misconception("tokenize", checks=LENGTHS)
def neither_cut_nor_padded(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """Every text has the tokens it has: nothing was cut off and nothing filled up. Say all three,
    `truncation=True`, `padding="max_length"` and `max_length`.
    """
    return _map(dataset, _encode(tokenizer, max_length, truncation=False, padding=False))


@misconception("tokenize", checks=LENGTHS)
def the_tokenizers_own_limit(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """`max_length` was not handed on, so the tokenizer took its own limit (`model_max_length`), the
    longest text the model could read. Every token of padding costs like one of text.
    """

    def encode(rows: Any) -> dict[str, Any]:
        return dict(tokenizer(rows["text"], truncation=True, padding="max_length"))

    return _map(dataset, encode)


@misconception("tokenize", checks=LENGTHS)
def always_512(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The rows are 512 long whatever `max_length` is: a number from an example was left in. Hand
    the argument on.
    """
    return _map(dataset, _encode(tokenizer, 512))


@misconception("tokenize", checks=LENGTHS)
def output_tokenized(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The column `output` was tokenized, the answer alone. `text` is instruction, input and output
    in one, in the form that the model is to learn.
    """
    return _map(dataset, _encode(tokenizer, max_length, "output"))


@misconception("tokenize", checks=LENGTHS)
def instruction_tokenized(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The column `instruction` was tokenized, without an answer to learn. `text` is instruction,
    input and output in one, in the form that the model is to learn.
    """
    return _map(dataset, _encode(tokenizer, max_length, "instruction"))


@misconception("tokenize", checks=LENGTHS)
def special_tokens_left_out(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The special tokens are missing: this tokenizer begins each text with bos, as the model has
    always seen it. Leave `add_special_tokens` as it is, and do not put tokens together yourself
    with `tokenizer.tokenize`.
    """
    return _map(dataset, _encode(tokenizer, max_length, add_special_tokens=False))


@misconception("tokenize", checks=LENGTHS)
def eos_appended(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """An eos was put behind every text. The thought is right (a model must see where answers end),
    but it belongs where the texts are made: here, tokenize `text` as it is.
    """

    def encode(rows: Any) -> dict[str, Any]:
        texts = [f"{text}{tokenizer.eos_token}" for text in rows["text"]]
        return _encode(tokenizer, max_length)({"text": texts})

    return _map(dataset, encode)


@misconception("tokenize", checks=LENGTHS)
def padded_with_the_end(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The rows are padded with eos although the tokenizer has another pad token: it was set here
    again. Use the tokenizer as it is handed over; a pad token is set once, where it is loaded.
    """
    tokenizer.pad_token = tokenizer.eos_token
    return _map(dataset, _encode(tokenizer, max_length))


@misconception("tokenize", checks=LENGTHS)
def padded_on_the_left(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The padding is on the left. That is for generating, where the answer must follow the prompt
    at once; for training leave the tokenizer's own side.
    """
    return _map(dataset, _encode(tokenizer, max_length, padding_side="left"))


@misconception("tokenize", checks=LENGTHS)
def padded_on_the_right(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The padding is on the right although this tokenizer pads on the left: the side was set here,
    or padding was put there by hand. The tokenizer says which side (`padding_side`); leave it.
    """
    return _map(dataset, _encode(tokenizer, max_length, padding_side="right"))


@misconception("tokenize", checks=SETTINGS)
def limit_set_on_the_tokenizer(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The rows are right, and the caller's tokenizer has another limit now (`model_max_length`),
    for everything that it is used for later. Hand the length to the call: `max_length=max_length`.
    """
    tokenizer.model_max_length = max_length
    return _map(dataset, _encode(tokenizer, max_length))


@misconception("tokenize", checks=LENGTHS)
def mask_of_ones(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The attention mask is 1 everywhere, on the padding too. It says what is text: 0 on padding.
    The tokenizer returns the right one.
    """

    def encode(rows: Any) -> dict[str, Any]:
        ids = _encode(tokenizer, max_length)(rows)["input_ids"]
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}

    return _map(dataset, encode)


@misconception("tokenize", checks=LENGTHS)
def mask_by_comparing(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """The mask is 0 on every token that equals the pad token. When that is eos, real ends of texts
    are hidden as well; take the mask that the tokenizer returns.
    """

    def encode(rows: Any) -> dict[str, Any]:
        ids = _encode(tokenizer, max_length)(rows)["input_ids"]
        masks = [[int(token != tokenizer.pad_token_id) for token in row] for row in ids]
        return {"input_ids": ids, "attention_mask": masks}

    return _map(dataset, encode)


@misconception("tokenize", checks=LENGTHS)
def rows_of_one_row(dataset: Dataset, tokenizer: Tokens, max_length: int) -> Dataset:
    """Each row holds a list in a list: `return_tensors="pt"` makes of one text a batch of one, of
    shape (1, max_length). Leave it out; the collator makes the tensors.
    """
    encode = _encode(tokenizer, max_length, return_tensors="pt")
    return _map(dataset, encode, batched=False)


# --- make_collator --------------------------------------------------------------------------------


Collator = Callable[[Rows], Any]


def _batch(rows: Rows) -> Batch:
    ids, mask = (
        torch.tensor([row[name] for row in rows]) for name in ("input_ids", "attention_mask")
    )
    labels = ids.masked_fill(mask == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _labelled(labels_of: Callable[[Tensor, Tensor], Tensor]) -> Collator:
    """Return a collator that is right but for the labels."""

    def collate(rows: Rows) -> Batch:
        batch = _batch(rows)
        labels = labels_of(batch["input_ids"], batch["attention_mask"])
        return {**batch, "labels": labels}

    return collate


@misconception("make_collator")
def make_collator_not_written(tokenizer: Tokens) -> Collator:
    """Return a function that takes a list of rows. The library has one for causal language models;
    or write it: two tensors, and labels from them. See "Collators and labels".
    """
    raise NotImplementedError


@misconception("make_collator", checks=LABELS)
def masked_language_modeling(tokenizer: Tokens) -> Collator:
    """By default `DataCollatorForLanguageModeling` is for masked models such as BERT: it hides some
    tokens at random and asks for those. For a model that writes, `mlm=False`.
    """
    return DataCollatorForLanguageModeling(tokenizer)


@misconception("make_collator", checks=LABELS)
def padding_learned(tokenizer: Tokens) -> Collator:
    """The labels are a copy of all the inputs, padding included: the model would spend its effort
    on predicting padding. Put -100 there.
    """
    return _labelled(lambda ids, mask: ids.clone())


@misconception("make_collator", checks=LABELS)
def pad_token_changed_here(tokenizer: Tokens) -> object:
    """The pad token was set to eos here, when the rows were padded with another already: the real
    ends lose their labels, and the padding is learned. Leave the tokenizer as it is handed over.
    """
    tokenizer.pad_token = tokenizer.eos_token
    return DataCollatorForLanguageModeling(tokenizer, mlm=False)


@misconception("make_collator", checks=LABELS)
def padding_labelled_0(tokenizer: Tokens) -> Collator:
    """The labels are 0 on the padding. Token 0 is a token, and would be learned; what the loss is
    to leave out is marked -100.
    """
    return _labelled(lambda ids, mask: ids * mask)


@misconception("make_collator", checks=LABELS)
def labels_missing(tokenizer: Tokens) -> object:
    """There are no labels, so the model has no loss. A collator that only pads
    (`DataCollatorWithPadding`) or only stacks makes none: add them, or use the library's collator
    for language modelling.
    """
    return DataCollatorWithPadding(tokenizer)


@misconception("make_collator", checks=LABELS)
def mask_missing(tokenizer: Tokens) -> Collator:
    """The attention mask is missing from the batch: the model would read padding as text. Hand on
    both of what a row has.
    """

    def collate(rows: Rows) -> Batch:
        batch = _batch(rows)
        return {name: batch[name] for name in ("input_ids", "labels")}

    return collate


@misconception("make_collator", checks=LABELS)
def labels_are_the_mask(tokenizer: Tokens) -> Collator:
    """The labels are the attention mask. Labels are token ids, those of the inputs; the mask only
    says where they count.
    """
    return _labelled(lambda ids, mask: mask.clone())


@misconception("make_collator", checks=LABELS)
def labels_shifted(tokenizer: Tokens) -> Collator:
    """The labels were shifted by one. The model does that itself when it computes its loss; done
    twice, each position learns the token after next.
    """

    def shift(ids: Tensor, mask: Tensor) -> Tensor:
        labels = ids.masked_fill(mask == 0, -100).roll(-1, dims=1)
        labels[:, -1] = -100
        return labels

    return _labelled(shift)


@misconception("make_collator", checks=LABELS)
def labels_shifted_under_the_mask(tokenizer: Tokens) -> Collator:
    """The labels were shifted by one before the padding was marked. The model shifts them itself:
    done twice, each position learns the token after next, and the last one of a text learns
    padding. Leave the labels in their places.
    """

    def shift(ids: Tensor, mask: Tensor) -> Tensor:
        labels = torch.full_like(ids, -100)
        labels[:, :-1] = ids[:, 1:]
        return labels.masked_fill(mask == 0, -100)

    return _labelled(shift)


@misconception("make_collator", checks=LABELS)
def labels_rolled(tokenizer: Tokens) -> Collator:
    """The labels were rolled by one, so that a row's first token became its last label. The model
    shifts by itself when it computes its loss: leave the labels in their places.
    """
    return _labelled(lambda ids, mask: ids.roll(-1, dims=1).masked_fill(mask == 0, -100))


@misconception("make_collator", checks=LABELS)
def inputs_and_labels_cut(tokenizer: Tokens) -> Collator:
    """The inputs lost their last token and the labels their first: that is a shift by hand. Hugging
    Face models shift themselves, so both stay whole and in place.
    """

    def collate(rows: Rows) -> Batch:
        batch = _batch(rows)
        labels = batch.pop("labels")
        return {**{name: value[:, :-1] for name, value in batch.items()}, "labels": labels[:, 1:]}

    return collate


@misconception("make_collator", checks=LABELS)
def labels_share_the_inputs_memory(tokenizer: Tokens) -> Collator:
    """The -100 stand in the inputs too: `labels = input_ids` makes no copy, so writing into one
    writes into the other, and -100 is no token. Use `input_ids.clone()`.
    """

    def collate(rows: Rows) -> Batch:
        batch = _batch(rows)
        return {**batch, "input_ids": batch["labels"]}

    return collate


@misconception("make_collator", checks=LABELS)
def everything_in_lists(tokenizer: Tokens) -> Collator:
    """The batch holds lists. A model takes tensors: `torch.tensor(...)`, or `return_tensors="pt"`
    where the tokenizer makes them.
    """
    return lambda rows: {name: value.tolist() for name, value in _batch(rows).items()}


@misconception("make_collator", checks=LABELS)
def rows_returned(tokenizer: Tokens) -> Collator:
    """That is a list again, with labels in each row. A collator turns the list of rows into *one*
    dict of tensors.
    """

    def collate(rows: Rows) -> list[Batch]:
        batch = _batch(rows)
        return [{name: value[i] for name, value in batch.items()} for i in range(len(rows))]

    return collate


@misconception("make_collator", checks=LABELS)
def floats(tokenizer: Tokens) -> Collator:
    """The tensors hold floats: `torch.Tensor(...)` always makes float32. Ids index a table and must
    be whole numbers: `torch.tensor(...)`, with a small t.
    """
    return lambda rows: {name: value.float() for name, value in _batch(rows).items()}


@misconception("make_collator", checks=LABELS)
def lists_stacked(tokenizer: Tokens) -> Collator:
    """`torch.stack` joins tensors, but the rows of a Dataset hold lists unless its format was set.
    `torch.tensor([...])` takes the lists as they are.
    """

    def collate(rows: Any) -> Batch:
        ids = torch.stack([row["input_ids"] for row in rows])
        return {"input_ids": ids, "labels": ids.clone()}

    return collate


@misconception("make_collator", checks=LABELS)
def batch_not_returned(tokenizer: Tokens) -> Collator:
    """The collator was called and gave nothing back: there is no `return` at the end of the inner
    function.
    """

    def collate(rows: Rows) -> None:
        _batch(rows)

    return collate


@misconception("make_collator", checks=LABELS)
def collator_not_returned(tokenizer: Tokens) -> None:
    """`make_collator` returned nothing. Return the collator itself, without calling it: the inner
    function's name, or the library's object.
    """


@misconception("make_collator", checks=ENDS)
def end_hidden_with_the_padding(tokenizer: Tokens) -> Collator:
    """Every eos became -100, the real ones too: padding was told by its id, as the library's
    collator does it. Tell it by the attention mask instead, or have a pad token that is not eos.
    """
    return DataCollatorForLanguageModeling(tokenizer, mlm=False)

"""The tokenizers: byte-level BPE, learned from the bundled text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from labs.assets import form
from labs.assets.rows import Row

SIZE: Final = 1024
"""Tokens, the one for padding included; a model has a row of its embedding for each."""
BEGIN, END, PAD = "<s>", "</s>", "<pad>"
MARKS: Final = (form.INSTRUCTION, form.INPUT, form.RESPONSE)
"""The marks of a prompt: one token each, as chat models have tokens for whose turn it is."""
_CONTEXT: Final = 256


def learn(rows: Iterable[Row]) -> Tokenizer:
    """Return a byte-level BPE of ``SIZE - 1`` tokens: any text can be written with it.

    Tokens 0 and 1 are ``<s>`` and ``</s>``, the last three are the marks of a prompt.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - 1 - len(MARKS),
        special_tokens=[BEGIN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    parts = (part for row in rows for part in (row.instruction, row.input, row.output))
    tokenizer.train_from_iterator(parts, trainer)
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    return tokenizer


def wrap(core: Tokenizer, *, pad: bool) -> PreTrainedTokenizerFast:
    """Return ``core`` as transformers' tokenizer; with ``pad`` one more token, the last, is for it.

    No special token is added to a text by itself, as with GPT-2.
    """
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(core.to_str()),
        bos_token=BEGIN,
        eos_token=END,
        **({"pad_token": PAD} if pad else {}),
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = form.CHAT_TEMPLATE
    return made

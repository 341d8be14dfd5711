"""Tiny real models and tokenizers for scenes: made from a seed in milliseconds, no network.

They are the library's own classes, only small: what is right for them is right for a model of
8 billion parameters. No two seeds give the same weights, and no name of a layer is the same in all
families, so that nothing can be learned by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

FAMILIES: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "phi3": (Phi3Config, Phi3ForCausalLM),
}
"""Configuration and model class by family; phi3 has its q, k, v in one ``qkv_proj``."""

UNKNOWN, BEGIN, END, PADDING = "<unk>", "<s>", "</s>", "<pad>"


def tiny_model(
    family: str,
    seed: int,
    *,
    vocabulary: int = 64,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    **more: Any,
) -> PreTrainedModel:
    """Return a model of ``family`` with random float32 weights, on the CPU, in evaluation mode.

    Torch's own generator is left as it was.

    Args:
        family: A key of `FAMILIES`.
        seed: Decides the weights.
        vocabulary: Tokens; begin, end and padding are 1, 2 and 2 unless ``more`` says otherwise.
        width: Of the residual stream; ``heads`` divides it. The MLP is twice as wide.
        depth: Decoder layers.
        heads: Query heads.
        kv_heads: Key and value heads; divides ``heads``.
        more: Further fields of the configuration.
    """
    config_class, model_class = FAMILIES[family]
    told = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,  # 0.02 makes so small a model say one token for ever
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "tie_word_embeddings": False,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = model_class(config_class(**(told | more)))
    model.train(mode=False)
    return model


def tiny_tokenizer(words: Sequence[str], *, pad: bool = False) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each of ``words``; text is split at white space.

    Tokens 0, 1, 2 are ``<unk>``, ``<s>``, ``</s>``; with ``pad`` 3 is ``<pad>``, without there is
    no pad token. No special token is added to a text by itself, as with GPT-2.
    """
    special = [UNKNOWN, BEGIN, END, *([PADDING] if pad else [])]
    ids = {word: number for number, word in enumerate([*special, *words])}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        **({"pad_token": PADDING} if pad else {}),
        clean_up_tokenization_spaces=False,
    )

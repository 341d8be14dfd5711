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
# # Transformers: architecture components
#
# Four functions. The first two look into models, the other two are the heart of one. Replace every
# `raise NotImplementedError`, then run `invoke verify --skill transformers` in a terminal. The
# lesson, `README.md`, has everything that is needed; each section of it is named where it helps.
#
# Only the functions below and what they use are verified. The cells after *try it* are yours:
# select all in one, uncomment it (Ctrl+/) and run it.

# %%
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

# %% [markdown]
# ## 1. The parts of a decoder
#
# Where in a model are its attention blocks, its MLP blocks and its norms? Return their dotted
# names, as `model.named_modules()` has them, each once and in any order.
#
# - It is asked of Llama, Mistral, Qwen2 and Phi-3, of any depth. All four call the blocks
#   `self_attn` and `mlp`, and give every norm a name that ends in `norm`.
# - The block itself counts, not what is inside it: one attention and one MLP for each layer.
# - Norms are the two of each layer and the final one.
# - Rotary embedding, token embedding, LM head and Phi-3's `resid_…_dropout` are none of the three.
# - The model may sit inside another module, as under PEFT. The names start from what you are given.
#
# (Lesson: *Finding the parts by name*.)


# %%
def components(model: nn.Module) -> dict[str, list[str]]:
    """Return the dotted names of the blocks of each kind.

    Args:
        model: A causal language model, or a module that holds one.

    Returns:
        A dict with the keys "attention", "mlp" and "norm".
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: with a small Phi-3. Its names, and where they are in the printed model.

# %%
# from transformers.utils import logging
# logging.disable_progress_bar()
# from labs import assets
# small = AutoModelForCausalLM.from_pretrained(assets.random_model("phi3"))
# print(small)
# for kind, names in components(small).items():
#     print(kind, names)

# %% [markdown]
# ## 2. The projections
#
# Which linear layers (`nn.Linear`) are inside the attention blocks? Return the *last part* of their
# names: the list that LoRA's `target_modules` takes. Each name stands for that layer in all blocks;
# order and repetition do not matter.
#
# Do not write them down from memory: Phi-3 has other ones than Llama, and the verification also
# brings models whose attention is as in other families: its projections are called otherwise, and
# there is more in it than these. The blocks are `self_attn` still.
# (Lesson: *Finding the parts by name*, *What LoRA adapts*.)


# %%
def attention_projections(model: nn.Module) -> list[str]:
    """Return the last parts of the names of the attention's linear layers."""
    raise NotImplementedError


# %% [markdown]
# *Try it*: which of these models could share a LoRA configuration?

# %%
# from labs import assets
# for family in assets.FAMILIES:
#     some = AutoModelForCausalLM.from_pretrained(assets.random_model(family))
#     print(family, attention_projections(some))

# %% [markdown]
# ## 3. The attention
#
# Causal self-attention with several heads, from the four weights of the projections. Weights are
# stored as (out, in), as `nn.Linear` stores them. There is no bias and no rotary embedding.
#
# - Each head scores queries against keys, divided by the root of the *head's* width.
# - No token sees a later one; each sees itself.
# - There may be fewer heads of keys and values than of queries: then neighbouring query heads share
#   one. Query head h uses number `h // (num_heads // num_kv_heads)`.
#
# Torch's own attention may be used. (Lesson: *What q, k, v and o are*, *Who sees whom*, *Heads*.)


# %%
def causal_attention(
    x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, num_heads: int, num_kv_heads: int
) -> Tensor:
    """Return what the attention of a decoder block makes of x, (B, T, D).

    Args:
        x: (B, T, D), float32.
        wq: (D, D). A head is D / num_heads wide.
        wk: (num_kv_heads * D / num_heads, D).
        wv: The same shape.
        wo: (D, D).
        num_heads: How many heads of queries; divides D.
        num_kv_heads: How many heads of keys and values; divides num_heads.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: does the output at position 2 change when only token 4 does? It must not.

# %%
# torch.manual_seed(0)
# toy = torch.randn(1, 6, 16)
# toy_weights = [torch.randn(rows, 16) / 4 for rows in (16, 8, 8, 16)]  # 4 heads of 4, 2 of kv
# changed = toy.clone()
# changed[0, 4] += 1
# before, after = (causal_attention(x, *toy_weights, 4, 2) for x in (toy, changed))
# print((before - after).abs().amax(-1))  # zero, zero, zero, zero, more, more

# %% [markdown]
# ## 4. The block
#
# Put a decoder block together from its four parts: pre-norm, with residual connections. Each part
# is a function from (B, T, D) to (B, T, D); whether it is a module does not matter here. Leave x
# as it is: the backward pass needs it.
# (Lesson: *The residual stream*.)


# %%
def decoder_block(
    x: Tensor,
    attention: Callable[[Tensor], Tensor],
    mlp: Callable[[Tensor], Tensor],
    norm1: Callable[[Tensor], Tensor],
    norm2: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the residual stream after the block, (B, T, D).

    Args:
        x: (B, T, D): the residual stream before it.
        attention: The first sublayer.
        mlp: The second sublayer.
        norm1: The norm that belongs to the attention.
        norm2: The norm that belongs to the MLP.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: a trained layer's MLP and norms, with your own attention for its own. The stream grows a
# little with each block.

# %%
# from labs import assets
# trained = AutoModelForCausalLM.from_pretrained(assets.model(), dtype=torch.float32)
# layer, config = trained.model.layers[0], trained.config
# projections = [getattr(layer.self_attn, f"{name}_proj").weight for name in "qkvo"]
# counts = config.num_attention_heads, config.num_key_value_heads
# stream = trained.model.embed_tokens(torch.arange(8).unsqueeze(0))
# later = decoder_block(
#     stream,
#     lambda x: causal_attention(x, *projections, *counts),
#     layer.mlp,
#     layer.input_layernorm,
#     layer.post_attention_layernorm,
# )
# print(stream.square().mean().sqrt(), later.square().mean().sqrt())

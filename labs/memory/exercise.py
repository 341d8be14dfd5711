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
# # Memory management: GPU memory concepts
#
# Nine functions, most of them a few lines. Replace every `raise NotImplementedError`, then run
# `invoke verify --skill memory` in a terminal. The lesson, `README.md`, has everything that is
# needed; each section of it is named where it helps.
#
# Only the functions below and what they use are verified. The cells after *try it* are yours:
# select all in one, uncomment it (Ctrl+/) and run it.
# No GPU is needed: what only a GPU has is simulated or handed to you as numbers.

# %%
from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

# %% [markdown]
# ## 1. What the weights take
#
# In bytes: not in bits, GB or GiB. Quantised weights have fractions of a bit. (Lesson: *Counting
# weights*.)


# %%
def weight_bytes(num_params: int, bits: float) -> float:
    """Return the bytes that the weights of a model take.

    Args:
        num_params: How many weights there are.
        bits: What each of them takes, for instance 16, or 4.127 for NF4.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: 8 billion parameters in bfloat16 and in NF4, in GB.

# %%
# print(weight_bytes(8 * 10**9, 16) / 1e9, weight_bytes(8 * 10**9, 4.127) / 1e9)

# %% [markdown]
# ## 2. What a training run takes
#
# Everything that stays in memory all the time. Ask of each part whether a *frozen* parameter has
# it. (Lesson: *Counting a training run*.)


# %%
def training_bytes(
    num_params: int,
    trainable_params: int,
    weight_bits: float = 16,
    grad_bits: float = 16,
    optimizer_bits: float = 64,
    master_bits: float = 32,
) -> float:
    """Return the bytes that a training run takes, activations aside.

    Args:
        num_params: All parameters of the model.
        trainable_params: Those of them that are trained.
        weight_bits: Bits of a weight.
        grad_bits: Bits of a gradient.
        optimizer_bits: Bits of what the optimizer remembers of a parameter, all of it together.
        master_bits: Bits of the copy of a weight that the optimizer updates; 0 if there is none.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: 8 billion parameters, all trained, and then a hundredth of them, in GB.

# %%
# for trained in (8 * 10**9, 8 * 10**7):
#     print(training_bytes(8 * 10**9, trained) / 1e9)

# %% [markdown]
# ## 3. What a run may still take
#
# A GPU with memory of its own reports what is free. Where CPU and GPU share one memory, the kernel
# knows better. (Lesson: *What is still free*.)


# %%
def usable_bytes(meminfo: str, cuda_free: int, unified: bool) -> int:
    """Return the bytes a run may still take on this machine.

    Args:
        meminfo: The text of `/proc/meminfo`.
        cuda_free: What CUDA calls free, in bytes.
        unified: Whether CPU and GPU share one memory.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it* on this machine, as if it had unified memory; `free -b` in a terminal shows the same.

# %%
# from pathlib import Path
# print(usable_bytes(Path("/proc/meminfo").read_text(), 0, unified=True))

# %% [markdown]
# ## 4. Activations recomputed instead of kept
#
# The model comes as `from_pretrained` returns it. Make this very model ready for training with
# checkpointing, and return it. Every layer is to keep its input alone; gradients must be what they
# would be without. (Lesson: *Gradient checkpointing*.)


# %%
def enable_checkpointing(model: PreTrainedModel) -> PreTrainedModel:
    """Return the same model, ready to train and with its activations recomputed in backward."""
    raise NotImplementedError


# %% [markdown]
# *Try it*: a Llama with 4 layers and random weights.

# %%
# config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
#                      num_attention_heads=4, num_key_value_heads=2, use_cache=False)
# tiny = enable_checkpointing(LlamaForCausalLM(config).eval())
# ids = torch.randint(0, 64, (2, 16))
# kept = []
# with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
#     tiny(input_ids=ids, labels=ids).loss.backward()
# print(len(kept), "tensors kept for backward; without checkpointing there are many times more")

# %% [markdown]
# ## 5. A step in mixed precision
#
# One whole training step: forward in bfloat16, parameters in float32 all the time. The model may be
# on any device, and no gradients are left over from anything before your first call. Leave the
# batch as it is: another pass would need it again. No clipping. (Lesson: *Mixed precision*.)


# %%
def mixed_precision_step(
    model: nn.Module, batch: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> float:
    """Take one training step on `batch` and return its loss.

    Args:
        model: float32 and in train mode; `model(**batch).loss` is what is trained on.
        batch: On the model's device.
        optimizer: Has the model's parameters.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: the loss on one batch falls, and the parameters are still float32.

# %%
# optimizer = torch.optim.AdamW(tiny.parameters(), lr=1e-3)
# for _ in range(5):
#     print(mixed_precision_step(tiny, {"input_ids": ids, "labels": ids}, optimizer))
# print({p.dtype for p in tiny.parameters()})

# %% [markdown]
# ## 6. Which 16 bits
#
# float16 has more digits, bfloat16 more range. Take float16 where its range is enough: no value
# becomes infinite in it, and none that is not zero becomes zero. Only look at the values: they are
# the caller's. (Lesson: *float16 or bfloat16*.)


# %%
def half_precision_for(values: Tensor) -> torch.dtype:
    """Return `torch.float16` if its range holds all of `values`, else `torch.bfloat16`.

    Args:
        values: float32, finite, of any shape; zeros and negative values among them, or zeros alone.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: activations, then gradients.

# %%
# print(half_precision_for(torch.randn(1000)), half_precision_for(torch.randn(1000) * 1e-9))

# %% [markdown]
# ## 7. How fragmented the GPU's memory is
#
# The next two read the numbers that `torch.cuda.memory_stats()` gives on a GPU: a flat dict with
# keys such as `"reserved_bytes.all.current"`. (Lesson: *Fragmentation and the allocator's cache*.)


# %%
def fragmentation(stats: dict[str, int]) -> float:
    """Return the share of the reserved bytes that lies idle beside live blocks.

    Args:
        stats: As `torch.cuda.memory_stats()` returns it. Nothing may be reserved yet: then 0.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: only on a GPU are there any numbers.

# %%
# if torch.cuda.is_available():
#     x = torch.zeros(10**6, device="cuda")
#     print(fragmentation(torch.cuda.memory_stats()))

# %% [markdown]
# ## 8. What `empty_cache` could hand back


# %%
def releasable_bytes(stats: dict[str, int]) -> int:
    """Return the bytes that `torch.cuda.empty_cache()` could return to the driver now.

    Args:
        stats: As `torch.cuda.memory_stats()` returns it.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: only on a GPU are there any numbers.

# %%
# if torch.cuda.is_available():
#     print(releasable_bytes(torch.cuda.memory_stats()))

# %% [markdown]
# ## 9. Giving memory back
#
# The list is the last thing that refers to the objects, and some of them refer to each other. When
# torch's cache is emptied, none of them may be alive any more. Without a GPU there is no cache to
# empty, and the function should still work. (Lesson: *Giving memory back*.)


# %%
def release(objects: list[Any]) -> None:
    """Let go of all `objects`, so that other programs can have the GPU memory they held.

    Args:
        objects: The caller's own list.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: a cycle, and something to see whether it is gone.

# %%
# import weakref
# class Node: pass
# node = Node(); node.me = node
# ghost, held = weakref.ref(node), [node]
# del node
# release(held)
# print(ghost() is None)

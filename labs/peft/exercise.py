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
# # PEFT: parameter-efficient fine-tuning
#
# Seven functions, each a few lines. Replace every `raise NotImplementedError`, then run
# `invoke verify --skill peft` in a terminal. The lesson, `README.md`, has everything that is
# needed; each section of it is named where it helps.
#
# Only the functions below and what they use are verified. The cells after *try it* are yours:
# select all in one, uncomment it (Ctrl+/) and run it. They use a small model with random weights
# from the lab; nothing is downloaded.

# %%
from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

# %% [markdown]
# ## 1. What is trained
#
# How many numbers of a model are trained, and how many it has. Not tensors, not bytes: numbers. A
# tensor that two modules share (tied embeddings) counts once.
#
# On a quantised model a weight is stored packed, two to a byte: count the weights, not the bytes.
# (Lesson: *What is trained, and how much that is*.)


# %%
def trainable_report(model: nn.Module) -> tuple[int, int]:
    """Return how many parameters of a model are trained, and how many there are.

    Args:
        model: With or without adapters. Frozen parameters want no gradient.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: all of a model is trained unless something freezes it.

# %%
# print(trainable_report(nn.Linear(10, 5)))

# %% [markdown]
# ## 2. A linear layer with an adapter
#
# The frozen layer and, beside it, the update. Write the formula yourself, without PEFT. Leave the
# tensors you are given as they are, and let gradients pass: they have to reach A, B and x.
# (Lesson: *An update of low rank*.)


# %%
def lora_linear(x: Tensor, weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """Return the layer's output for x, (..., out).

    Args:
        x: (..., in).
        weight: (out, in), frozen. There is no bias.
        A: (r, in).
        B: (out, r).
        alpha: The update is scaled by alpha over the rank.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: with B zero the adapter adds nothing.

# %%
# x, weight, A = torch.randn(2, 6), torch.randn(4, 6), torch.randn(3, 6)
# print(lora_linear(x, weight, A, torch.zeros(4, 3), alpha=6.0) - x @ weight.T)

# %% [markdown]
# ## 3. The update merged into the weight
#
# Once trained, the update can become part of the weight: the same answers, and nothing to compute
# beside it. Return a new weight; other adapters still need the old one. (Lesson: *Merging*.)


# %%
def merge_lora(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """Return the weight with the scaled update in it, (out, in). `weight` stays as it is.

    Args:
        weight: (out, in).
        A: (r, in).
        B: (out, r).
        alpha: The update is scaled by alpha over the rank.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: merged and beside it, the same output.

# %%
# B = torch.randn(4, 3)
# print(x @ merge_lora(weight, A, B, alpha=6.0).T - lora_linear(x, weight, A, B, alpha=6.0))

# %% [markdown]
# ## 4. Adapters on a model
#
# From here on PEFT does the work. Put an adapter on every `q_proj`, `k_proj`, `v_proj` and `o_proj`
# of a Llama, Mistral or Qwen2, and on nothing else. The base must be frozen and the outputs must
# stay what they were. (Lesson: *Adding adapters with PEFT*, *Rank and alpha*, *Which layers*.)


# %%
def add_lora(model: PreTrainedModel, r: int, alpha: float) -> PeftModel:
    """Return the model with fresh LoRA adapters on its four attention projections.

    Args:
        model: The base, in any data type.
        r: The rank of every update.
        alpha: Every update is scaled by alpha over the rank.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: the share that is trained. What does it do when r doubles?

# %%
# from labs import assets
#
# tiny = AutoModelForCausalLM.from_pretrained(assets.random_model("llama"))
# adapted = add_lora(tiny, r=4, alpha=8)
# trained, total = trainable_report(adapted)
# print(f"{trained:,} of {total:,} parameters are trained: {trained / total:.2%}")

# %% [markdown]
# ## 5. A base in four bits
#
# Load a checkpoint as QLoRA does: weights in NF4, their scales quantised too, products in bfloat16.
# It works on a CPU. (Lesson: *QLoRA: the base in four bits*.)


# %%
def load_4bit(path: str) -> PreTrainedModel:
    """Return the causal language model at `path`, in 4 bits.

    Args:
        path: The folder of a checkpoint.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: what is packed, and what is not?

# %%
# packed = load_4bit(assets.random_model("llama"))
# for name, parameter in packed.named_parameters():
#     print(name, tuple(parameter.shape), parameter.dtype)
# print(trainable_report(packed))

# %% [markdown]
# ## 6. Saving what was learned
#
# Write the adapter alone, in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
# None of the base's weights. (Lesson: *Saving and loading an adapter*.)


# %%
def save_adapter(model: PeftModel, directory: str) -> None:
    """Write the adapter of a model.

    Args:
        model: As PEFT returns it.
        directory: A folder that is there and empty.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: how large is what was saved, and how large is the base?

# %%
# import tempfile
# from pathlib import Path
#
# folder = tempfile.mkdtemp()
# save_adapter(adapted, folder)
# for file in Path(folder).iterdir():
#     print(f"{file.stat().st_size:>8,} bytes  {file.name}")
# print(f"{sum(p.nbytes for p in tiny.parameters()):>8,} bytes of parameters in the model")

# %% [markdown]
# ## 7. Loading it again
#
# The base from `base_path`, in its checkpoint's own data type, and the saved adapter on it: the
# answers must be those of the model that was saved. `adapter_config.json` names a base too: where
# it was on the machine of whoever trained the adapter. (Lesson: *Saving and loading an adapter*.)


# %%
def load_adapter(base_path: str, directory: str) -> PreTrainedModel | PeftModel:
    """Return the base with the adapter on it, ready to be used.

    Args:
        base_path: The folder of the base's checkpoint.
        directory: The folder that an adapter was saved in.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: the largest difference between the logits before and after.

# %%
# again = load_adapter(assets.random_model("llama"), folder)
# ids = torch.tensor([[1, 2, 3, 4]])
# with torch.no_grad():
#     print((again(input_ids=ids).logits - adapted(input_ids=ids).logits).abs().max())

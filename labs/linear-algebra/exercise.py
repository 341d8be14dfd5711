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
# # Matrix decomposition (why LoRA has a rank)
#
# Four functions, each of one to three lines. Replace every `raise NotImplementedError`, then run
# `invoke verify --skill linear-algebra` in a terminal. The lesson, `README.md`, has everything that
# is needed; each section of it is named where it helps.
#
# Only the functions below and what they use are verified. The cells after *try it* are yours:
# select all in one, uncomment it (Ctrl+/) and run it.

# %%
from __future__ import annotations

import torch
from torch import Tensor

# %% [markdown]
# ## 1. The best approximation of a given rank
#
# Two thin factors whose product is as near to W as any matrix of rank r can be. Their shapes are
# those of LoRA's: B (out, r), A (r, in). How the singular values are shared out between the two is
# up to you. (Lesson: *The best approximation* and *B and A*.)


# %%
def low_rank(W: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Return (B, A) such that B @ A is the best approximation of W that has rank r.

    Args:
        W: (out, in), float32.
        r: 1 <= r <= min(out, in).
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: a matrix of rank 3 and a little noise. Of its rank-3 approximation, what is missed is
# about the noise.

# %%
# torch.manual_seed(0)
# toy = torch.randn(8, 3) @ torch.randn(3, 6) + 0.01 * torch.randn(8, 6)
# for rank in (1, 2, 3, 4):
#     B, A = low_rank(toy, rank)
#     print(rank, tuple(B.shape), tuple(A.shape), (toy - B @ A).norm().item())

# %% [markdown]
# ## 2. How far off an approximation is
#
# For any factors, good or bad: the size of what is missed beside the size of W, both in the
# Frobenius norm. (Lesson: *How far off*.)


# %%
def relative_error(W: Tensor, B: Tensor, A: Tensor) -> float:
    """Return how far B @ A is from W, as a share of W's own size.

    Args:
        W: (out, in), float32, not all zero.
        B: (out, r).
        A: (r, in).
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: factors of zero miss everything, which is 1; the right ones nothing.

# %%
# toy_B, toy_A = torch.randn(5, 2), torch.randn(2, 4)
# toy = toy_B @ toy_A
# print(relative_error(toy, 0 * toy_B, toy_A), relative_error(toy, toy_B, toy_A))

# %% [markdown]
# ## 3. The rank that keeps most of it
#
# The other way round: how much is to be kept is given, as a share of the energy (the sum of the
# squared singular values), and the smallest rank that does it is asked for. (Lesson: *Energy*.)


# %%
def rank_for_energy(W: Tensor, fraction: float) -> int:
    """Return the smallest r such that the r largest terms keep `fraction` of W's energy.

    Args:
        W: (out, in), float32, not all zero.
        fraction: 0 < fraction < 1, and not just at a boundary between two ranks.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it* on a real model: the small chat model of this lab, which has been trained. How many terms
# do its weights need? (`invoke lab.up` has made it; `python -m labs.assets` does, too.)

# %%
# from transformers import AutoModelForCausalLM
# from labs import assets
#
# chat = AutoModelForCausalLM.from_pretrained(assets.model(), dtype=torch.float32)
# for name, weight in chat.named_parameters():
#     if "layers.0." in name and weight.dim() == 2:
#         noise = torch.randn(weight.shape)
#         ranks = rank_for_energy(weight.detach(), 0.9), rank_for_energy(noise, 0.9)
#         print(name, tuple(weight.shape), "needs", ranks[0], "and random numbers", ranks[1])

# %% [markdown]
# ## 4. What LoRA costs
#
# The number of weights in B and A together, for a layer with so many outputs and inputs.
# (Lesson: *What it costs*.)


# %%
def lora_param_count(out_features: int, in_features: int, r: int) -> int:
    """Return how many weights LoRA of rank r trains for a linear layer."""
    raise NotImplementedError


# %% [markdown]
# *Try it*: what the PEFT library counts for one layer of 32 outputs and 48 inputs.

# %%
# from peft import LoraConfig, get_peft_model
#
# layer = torch.nn.Sequential(torch.nn.Linear(48, 32, bias=False))
# adapted = get_peft_model(layer, LoraConfig(r=4, target_modules=["0"]))
# adapted.print_trainable_parameters()
# print(lora_param_count(32, 48, 4))

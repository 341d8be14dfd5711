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
# # Training basics: loss, optimizer, training loop
#
# Five functions, each a few lines. Replace every `raise NotImplementedError`, then run
# `invoke verify --skill training` in a terminal. The lesson, `README.md`, has everything that is
# needed; each section of it is named where it helps.
#
# Only the functions below and what they use are verified. The cells after *try it* are yours:
# select all in one, uncomment it (Ctrl+/) and run it.

# %%
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

# %% [markdown]
# ## 1. The loss of one prediction
#
# A model gave the right answer the probability `p`. How surprised was it?
# (Lesson: *One prediction*.)


# %%
def loss_from_probability(p: float) -> float:
    """Return the loss, in nats, of a prediction that gave the right answer probability p.

    Args:
        p: A probability, 0 < p <= 1.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: the first is small, the last is large.

# %%
# for p in (0.9, 0.5, 0.1):
#     print(p, loss_from_probability(p))

# %% [markdown]
# ## 2. Cross-entropy, written out
#
# The same for many predictions at once, from logits instead of probabilities: one number, the mean
# over the rows that count. A row whose target is `ignore_index` does not count at all.
#
# Write it without torch's own cross-entropy or NLL loss; `log_softmax` and `logsumexp` are fine.
# It must survive logits in the thousands, and `backward` must work on what it returns. Only read
# what you are given: the caller goes on using `logits` and `targets`.
# (Lesson: *From logits to a loss*.)


# %%
def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Return the mean cross-entropy over the targets that are not ignored, a 0-d tensor.

    Args:
        logits: (N, V), floating: a row of V scores for each of N predictions.
        targets: (N,), int64: the index of each right answer, or `ignore_index`; never all ignored.
        ignore_index: The target of rows that are left out.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: four rows of equal logits over 10 tokens. The loss of knowing nothing is ln 10.

# %%
# print(cross_entropy(torch.zeros(4, 10), torch.tensor([1, 2, -100, 3])), math.log(10))

# %% [markdown]
# ## 3. The loss of a language model
#
# Logits of whole texts, and labels that are the texts' own tokens, with -100 where nothing is to be
# learned. What does the model predict at each position? Here you may use anything, torch's own
# cross-entropy included. Again, only read what you are given. (Lesson: *The next token*.)


# %%
def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean next-token loss over all labels that count, a 0-d tensor.

    Args:
        logits: (B, T, V), floating: what the model says after reading each of T tokens.
        labels: (B, T), int64: the same T tokens, not shifted; -100 marks those not to be learned.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: logits that are sure of the right next token have a loss near 0.

# %%
# toy_text = torch.tensor([[3, 1, 4, 1, 5]])
# toy_logits = torch.zeros(1, 5, 10)
# for position, token in enumerate([1, 4, 1, 5]):
#     toy_logits[0, position, token] = 20
# print(causal_lm_loss(toy_logits, toy_text))

# %% [markdown]
# ## 4. Perplexity
#
# The same loss as a number one can picture. (Lesson: *Perplexity*.)


# %%
def perplexity(loss: float) -> float:
    """Return the perplexity of a mean loss per token, given in nats."""
    raise NotImplementedError


# %% [markdown]
# *Try it*: a loss of ln 10 is a choice among how many tokens?

# %%
# print(perplexity(math.log(10)))

# %% [markdown]
# ## 5. The training loop
#
# Go over the batches once, in order, with AdamW: torch's defaults, and the learning rate given.
#
# - `model(**batch)` returns an output; its `loss` is what to minimise.
# - The model may arrive in either mode: `from_pretrained` hands models over in *evaluation* mode.
#   Put it in training mode yourself.
# - It arrives without gradients. A batch is a mapping of tensors (a dict, or what a collator
#   returns), already on the model's device. Leave it whole: another pass would need it again.
# - No scheduler, no clipping, no autocast.
# - Return one number per batch: the loss that its step followed.
#
# (Lesson: *The loop*.)


# %%
def train(model: nn.Module, batches: Sequence[Mapping[str, Tensor]], lr: float) -> list[float]:
    """Train the model on each batch once and return the batches' losses, in order.

    Args:
        model: Called as model(**batch); the output has a `loss`, a 0-d tensor.
        batches: Mappings of tensors, on the model's device.
        lr: The learning rate of AdamW; everything else keeps torch's defaults.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: a language model of two layers learns one text by heart, so the losses fall.

# %%
# from transformers import LlamaConfig, LlamaForCausalLM
#
# toy_config = LlamaConfig(
#     vocab_size=50,
#     hidden_size=32,
#     intermediate_size=64,
#     num_hidden_layers=2,
#     num_attention_heads=4,
# )
# torch.manual_seed(0)
# toy_model = LlamaForCausalLM(toy_config)
# toy_tokens = torch.randint(0, 50, (2, 12))
# toy_batches = [{"input_ids": toy_tokens, "labels": toy_tokens}] * 20
# toy_losses = train(toy_model, toy_batches, lr=1e-2)
# print(toy_losses[0], "near", math.log(50), "and then", toy_losses[-1])

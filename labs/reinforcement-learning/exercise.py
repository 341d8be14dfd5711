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
# # Preferences and rewards (why DPO works)
#
# Four functions, each of one to five lines. Replace every `raise NotImplementedError`, then run
# `invoke verify --skill reinforcement-learning` in a terminal. The lesson, `README.md`, has
# everything that is needed; each section of it is named where it helps.
#
# In all four, only read the tensors you are given: the caller goes on using them.
#
# Only the functions below and what they use are verified. The cells after *try it* are yours:
# select all in one, uncomment it (Ctrl+/) and run it.

# %%
from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody gives it
from torch import Tensor

# %% [markdown]
# ## 1. The probability of an answer
#
# How probable does a model find each answer of a batch? One number for each row, in nats. The
# labels are a copy of the input tokens; those that do not belong to the answer are `ignore_index`.
# It must survive logits in the thousands, and `backward` must work on what it returns.
# (Lesson: *The probability of an answer*.)


# %%
def sequence_logprob(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Return the log-probability of each row's labels that count, (B,).

    Args:
        logits: (B, T, V), floating: what the model says after reading each of T tokens.
        labels: (B, T), int64: the same T tokens, not shifted.
        ignore_index: The label of tokens that do not count. A row in which none counts has 0.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it* on a real model: the small chat model of this lab, a question of its kind, and two
# answers. Which does it find likelier, and by how many nats? (`invoke lab.up` has made the model;
# `python -m labs.assets` does, too.)

# %%
# from transformers import AutoModelForCausalLM, AutoTokenizer
# from labs import assets
#
# chat = AutoModelForCausalLM.from_pretrained(assets.model(), dtype=torch.float32)
# tokenizer = AutoTokenizer.from_pretrained(assets.model())
# prompt = "### Instruction:\nWhat is four plus one?\n\n### Response:\n"
# skipped = len(tokenizer(prompt)["input_ids"])
# for answer in ("five", "nine"):
#     ids = tokenizer(prompt + answer, return_tensors="pt")["input_ids"]
#     labels = ids.clone()
#     labels[:, :skipped] = -100
#     print(answer, sequence_logprob(chat(input_ids=ids).logits, labels).item())

# %% [markdown]
# ## 2. The implicit reward
#
# Which reward would make the policy the best there is, given where it started? Up to a number that
# depends on the prompt alone. (Lesson: *The implicit reward*.)


# %%
def implicit_reward(policy_logprob: Tensor, reference_logprob: Tensor, beta: float) -> Tensor:
    """Return the implicit reward of each answer, (B,).

    Args:
        policy_logprob: (B,), log-probabilities of the answers under the model that is trained.
        reference_logprob: (B,), the same under the model it started from.
        beta: What it costs to leave the reference, > 0.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: the first answer has become likelier, the second has not changed, the third is avoided.

# %%
# policy, reference = torch.tensor([-9.0, -20.0, -35.0]), torch.tensor([-12.0, -20.0, -30.0])
# print(implicit_reward(policy, reference, beta=0.1))

# %% [markdown]
# ## 3. The DPO loss
#
# Of each pair one answer was preferred. One number for the batch: how badly the difference of the
# two implicit rewards tells which. It must stay finite, and its gradient right, however wrong a
# pair is judged. (Lesson: *The DPO loss*.)


# %%
def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> Tensor:
    """Return the mean DPO loss over the pairs, a 0-d tensor.

    Args:
        policy_chosen: (B,), log-probabilities of the chosen answers under the trained model.
        policy_rejected: (B,), of the rejected ones.
        reference_chosen: (B,), the same under the model it started from.
        reference_rejected: (B,).
        beta: > 0.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: at the start the policy is the reference; then it has learned; then it is hopelessly
# wrong.

# %%
# before = torch.tensor([-12.0, -30.0]), torch.tensor([-14.0, -25.0])
# print(dpo_loss(*before, *before, beta=0.1))
# print(dpo_loss(before[0] + 20, before[1] - 20, *before, beta=0.1))
# print(dpo_loss(before[0] - 5000, before[1], *before, beta=0.1))

# %% [markdown]
# ## 4. The policy gradient
#
# What DPO does without: answers were sampled, and each got a reward from outside. Return a loss
# whose gradient makes answers with more than the average reward likelier: REINFORCE, with the
# batch's mean reward as baseline. The rewards may come from a reward model, with a graph: nothing
# is to be learned from them. (Lesson: *Where reinforcement learning comes in*.)


# %%
def policy_gradient_loss(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """Return the REINFORCE loss of a batch of sampled answers, a 0-d tensor.

    Args:
        logprobs: (B,), log-probabilities of the answers under the model that is trained.
        rewards: (B,), floating: how good each answer was.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: a policy over three answers, of which the last is the best. Its probability grows.

# %%
# torch.manual_seed(0)
# preference = torch.zeros(3, requires_grad=True)
# optimizer = torch.optim.SGD([preference], lr=0.5)
# for round_number in range(101):
#     answers = torch.multinomial(preference.softmax(0).detach(), 16, replacement=True)
#     judged = torch.tensor([9.0, 10.0, 11.0])[answers]
#     optimizer.zero_grad()
#     policy_gradient_loss(preference.log_softmax(0)[answers], judged).backward()
#     optimizer.step()
#     if round_number % 20 == 0:
#         print(round_number, preference.softmax(0).tolist())

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
# # PyTorch: model loading and inference
#
# Three functions, each a few lines. Replace every `raise NotImplementedError`, then run
# `invoke verify --skill pytorch` in a terminal. The lesson, `README.md`, has everything that is
# needed; each section of it is named where it helps.
#
# Only the functions below and what they use are verified. The cells after *try it* are yours:
# select all in one, uncomment it (Ctrl+/) and run it. They use the small chat model that comes with
# the lab. No GPU is needed: where it matters, one is simulated.

# %%
from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

# %% [markdown]
# ## 1. Where to compute
#
# On the GPU if this machine has one that torch can use, else on the CPU. Ask each time the function
# is called, not once when the file is read. (Lesson: *Which device*.)


# %%
def pick_device() -> torch.device | str:
    """Return the device to compute on: CUDA when it is available, else the CPU."""
    raise NotImplementedError


# %% [markdown]
# *Try it*: what has this machine got?

# %%
# print(pick_device())

# %% [markdown]
# ## 2. A model and its tokenizer
#
# From the folder of a checkpoint: a causal language model with the checkpoint's weights, all of
# them in bfloat16 whatever the file has, in evaluation mode, on the device that `pick_device`
# gives; and its tokenizer. (Lesson: *Loading a model*, *Which dtype*, *Evaluation mode*.)


# %%
def load(path: str) -> tuple[PreTrainedModel, object]:
    """Return the model and the tokenizer of a checkpoint, ready for inference.

    Args:
        path: A folder with the model's and the tokenizer's files.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it* on the lab's model, and on one of another family that was never trained.

# %%
# from labs import assets
#
# for path in (assets.model(), assets.random_model("qwen2")):
#     some_model, some_tokenizer = load(path)
#     print(type(some_model).__name__, some_model.dtype, some_model.device, some_model.training)
#     print(some_tokenizer("What is the opposite of hot?")["input_ids"])

# %% [markdown]
# ## 3. A prompt goes in, and its continuation comes out
#
# Greedy, whatever the checkpoint's own settings say: always the likeliest token after *all* of the
# prompt. Return the new text alone, without the prompt and without special tokens. It ends at an
# end token of the model (its generation config names one or several), or after `max_new_tokens`
# tokens.
#
# The model may be on any device, and is in evaluation mode. The prompt is the text as the model is
# to read it: a chat template, if there is one, was applied before. `model.generate` will do, and so
# will a loop of your own. (Lesson: *A prompt goes in* and the sections after it.)


# %%
def generate(
    model: PreTrainedModel, tokenizer: object, prompt: str, max_new_tokens: int = 50
) -> str:
    """Return the greedy continuation of `prompt`: the new text, without special tokens.

    Args:
        model: A causal language model.
        tokenizer: The model's own.
        prompt: What the model reads first.
        max_new_tokens: How many tokens may be added at most.
    """
    raise NotImplementedError


# %% [markdown]
# *Try it*: the same question bare, and in the form the model was trained on.

# %%
# from labs import assets
#
# chat_model, chat_tokenizer = load(assets.model())
# question = "What is the opposite of hot?"
# turns = [{"role": "user", "content": question}]
# templated = chat_tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
# for prompt in (question, templated):
#     print(repr(prompt), "->", repr(generate(chat_model, chat_tokenizer, prompt, 20)))

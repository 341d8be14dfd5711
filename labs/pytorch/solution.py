"""The reference solution of the PyTorch lab."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)


def pick_device() -> torch.device:
    """Return where to compute on this machine: its GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the causal language model and the tokenizer of a checkpoint folder.

    `from_pretrained` hands a model over in evaluation mode, and since transformers 5 in the
    checkpoint's own dtype unless ``dtype`` says otherwise. The cast is made while loading: no
    second copy of the weights is needed, and the rotary frequencies stay float32.

    Args:
        path: A folder that ``save_pretrained`` wrote, or a model's name on the hub.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    model.to(pick_device())
    model.eval()
    return model, AutoTokenizer.from_pretrained(path)


def generate(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompt: str, max_new_tokens: int = 50
) -> str:
    """Return how the model continues ``prompt``, always with the likeliest token.

    Args:
        model: A causal language model, in evaluation mode, on any device.
        tokenizer: Its tokenizer.
        prompt: The text as the model is to read it; a chat template is the caller's.
        max_new_tokens: At most so many tokens; fewer if the model says its end token.

    Returns:
        The new text alone, without special tokens.
    """
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    new = output[0, inputs["input_ids"].shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True))

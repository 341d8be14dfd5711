"""The reference solution of the PEFT lab."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def trainable_report(model: nn.Module) -> tuple[int, int]:
    """Return how many numbers of ``model`` are trained and how many it has.

    A tensor that two modules share (tied embeddings) is counted once. A 4-bit weight is stored
    packed, two to a byte: its numbers are counted, not its bytes, as PEFT and Transformers do.
    """
    trainable = total = 0
    for parameter in model.parameters():
        count = parameter.numel()
        if type(parameter).__name__ == "Params4bit":
            count *= 2 * parameter.element_size()
        total += count
        trainable += count if parameter.requires_grad else 0
    return trainable, total


def lora_linear(x: Tensor, weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """Return what a linear layer with a LoRA adapter gives: x W^T + (alpha / r) x A^T B^T.

    LoRA, https://arxiv.org/abs/2106.09685, equation 3; no bias and no dropout. Going through A
    first never builds the (out, in) product of B and A.

    Args:
        x: (..., in).
        weight: W, (out, in), frozen; left as it is.
        A: (r, in).
        B: (out, r).
        alpha: The update is scaled by alpha / r.

    Returns:
        (..., out).
    """
    r = A.shape[0]
    return x @ weight.T + (alpha / r) * (x @ A.T @ B.T)


def merge_lora(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """Return W + (alpha / r) B A, (out, in): a new tensor; ``weight`` is left as it is.

    Args:
        weight: W, (out, in).
        A: (r, in).
        B: (out, r).
        alpha: The update is scaled by alpha / r.
    """
    return weight + (alpha / A.shape[0]) * (B @ A)


def add_lora(model: PreTrainedModel, r: int, alpha: float) -> PeftModel:
    """Put a fresh LoRA adapter on every attention projection of ``model``, whose weights freeze.

    PEFT changes ``model`` in place and returns a wrapper around it. A is random and B zero, so the
    outputs stay what they were. On a 16-bit base PEFT keeps A and B in float32.
    """
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,  # type: ignore[arg-type]  # said to be an int; it is only divided by r
        target_modules=ATTENTION,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def load_4bit(path: str) -> PreTrainedModel:
    """Load a checkpoint in NF4 with double quantisation, computing in bfloat16.

    QLoRA, https://arxiv.org/abs/2305.14314, section 3. Embeddings, norms and the LM head are not
    quantised. Where there is a GPU the model is put on it.
    """
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(path, quantization_config=config)


def save_adapter(model: PeftModel, directory: str) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``, nothing of the base.

    PEFT adds a README.md, a model card to fill in.
    """
    model.save_pretrained(directory)


def load_adapter(base_path: str, directory: str) -> PreTrainedModel | PeftModel:
    """Load the base in its checkpoint's dtype and put the saved adapter on it, frozen."""
    base = AutoModelForCausalLM.from_pretrained(base_path)
    return PeftModel.from_pretrained(base, directory)

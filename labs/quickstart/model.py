"""The model: loaded in NF4 or 16 bits, adapters put beside its layers, saved, loaded again."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils.logging import disable_progress_bar

from labs.quickstart.plan import Method, Precision
from verify.lab.problems import Misuse

TARGETS: Final = "all-linear"
"""Every linear layer of a block, not q and v alone: https://arxiv.org/abs/2305.14314, section 4."""


def device() -> torch.device:
    """Return where to train: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(method: Method, where: torch.device) -> Precision:
    """Return how numbers are kept: bfloat16 and float32 mixed; for LoRA on a CPU all float32."""
    return "float32" if method == "lora" and where.type == "cpu" else "mixed"


def load(place: str, method: Method, where: torch.device) -> Any:
    """Return the base model: NF4 with double quantisation and bfloat16 products for QLoRA.

    Raises:
        Misuse: the checkpoint lacks weights.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    dtype = torch.float32 if precision(method, where) == "float32" else torch.bfloat16
    quantised = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        place,
        output_loading_info=True,
        dtype=dtype,
        quantization_config=quantised if method == "qlora" else None,
        device_map={"": where},
        attn_implementation=os.environ.get("LAB_ATTENTION", "sdpa"),
    )
    model, told = loaded
    if missing := sorted(told["missing_keys"]):  # they would be drawn at random
        raise Misuse(
            f"The weights in {place} are not whole: {missing[0]} is missing, and "
            f"{len(missing) - 1} others.",
            cause="it is another model's config, an adapter's folder, or a copy that was stopped",
            type_this=f"ls -l {place}",
        )
    _keep_trainable(model)
    return model


def add_adapters(model: Any, rank: int, seed: int, targets: str | list[str] = TARGETS) -> PeftModel:
    """Return ``model`` with LoRA adapters of ``rank`` in float32, and all else frozen.

    What PEFT's `prepare_model_for_kbit_training` does besides is not wanted here: it would make
    embedding and head float32, 2 GB more for a vocabulary of 128,256 and a width of 4096, although
    they are frozen; and checkpointing without re-entry needs no gradient at its input.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,  # the update's scale, alpha / r, is 2 whatever the rank
        lora_dropout=0.0,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)
    return adapted


def load_adapter(base: Any, folder: Path) -> PeftModel:
    """Return ``base`` with the adapter saved in ``folder``."""
    return PeftModel.from_pretrained(base, str(folder))


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the adapters' tensors on the CPU, by name."""
    named = model.named_parameters()
    return {name: it.detach().cpu().clone() for name, it in named if "lora_" in name}


def trained(model: nn.Module) -> int:
    """Return how many parameters are trained."""
    return sum(it.numel() for it in model.parameters() if it.requires_grad)


@contextlib.contextmanager
def computing(where: torch.device, how: Precision) -> Iterator[None]:
    """Compute without gradients, and in ``how``."""
    with torch.no_grad(), torch.autocast(where.type, torch.bfloat16, enabled=how == "mixed"):
        yield


def give_back() -> None:
    """Give back the memory of what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _keep_trainable(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking weights in evaluation mode on a CPU with AVX512-BF16.

    It would do so at the first evaluation, for a product that has no gradient, and not undo it:
    from then on nothing reaches the adapters through a quantised layer, without a word
    (bitsandbytes 0.50, `Linear4bit.forward`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - mypy's Module

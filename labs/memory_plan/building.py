"""A model with random weights, from its config, made on the device, as a plan would train it."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from labs.quickstart import held, shape
from labs.quickstart import model as models
from labs.quickstart.plan import Plan


def build(config: Any, plan: Plan, where: torch.device) -> Any:
    """Return the model of ``plan`` in train mode; at no time is there more than it, and a layer."""
    torch.manual_seed(0)
    config.use_cache = False
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")  # type: ignore[no-untyped-call]
    model.tie_weights()
    stored = torch.float32 if (plan.stream == 4) else torch.bfloat16
    if plan.method == "qlora":
        _quantise(model, stored, where)
    _fill(model, stored, where)
    if plan.method != "full":
        kinds = {it.kind for it in held.targeted(shape.read(config), plan)}
        targets = models.TARGETS if plan.targets == "all-linear" else sorted(kinds)
        model = models.add_adapters(model, plan.rank, 0, targets)
    if plan.checkpointing:
        model.activation_checkpointing_enable()
    return model.train()


def _quantise(model: Any, stored: torch.dtype, where: torch.device) -> None:
    """Put NF4 with double quantisation in place of every linear layer but the head."""
    for block in model.get_decoder().layers:
        found = [(name, it) for name, it in block.named_modules() if isinstance(it, nn.Linear)]
        for name, layer in found:
            parent, _, last = name.rpartition(".")
            with torch.device("meta"):
                made = Linear4bit(  # type: ignore[no-untyped-call]
                    layer.in_features, layer.out_features, layer.bias is not None,
                    compute_dtype=stored, compress_statistics=True, quant_type="nf4",
                )  # fmt: skip
            weight = _drawn(layer.weight.shape, stored, where)
            packed: Any = Params4bit(
                weight, requires_grad=False, compress_statistics=True, quant_type="nf4"
            )
            made.weight = packed.to(where)  # which packs it
            setattr(block.get_submodule(parent), last, made)
    model.is_loaded_in_4bit = True  # PEFT asks for it


def _fill(model: Any, stored: torch.dtype, where: torch.device) -> None:
    """Give every parameter that has no storage one on ``where``, and move the buffers there."""
    made: dict[int, nn.Parameter] = {}  # embedding and head may be one
    for module in model.modules():
        for name, it in list(module._parameters.items()):
            if it is not None and it.is_meta:
                new = made.get(id(it))
                if new is None:
                    new = made[id(it)] = nn.Parameter(_drawn(it.shape, stored, where))
                module._parameters[name] = new
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(where)


def _drawn(size: torch.Size, stored: torch.dtype, where: torch.device) -> Tensor:
    """Return weights: small random numbers for a matrix, ones for a norm or a bias."""
    if len(size) < 2:
        return torch.ones(size, dtype=stored, device=where)
    return torch.empty(size, dtype=stored, device=where).normal_(0.0, 0.02)

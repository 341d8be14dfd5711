"""The reference: where GPU memory goes, and the four ways of needing less of it.

Every size is in bytes (not GB, 10**9, and not GiB, 2**30).
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

KIB = 1024  # /proc/meminfo writes "kB" and means 1024 bytes: proc_meminfo(5)


def weight_bytes(num_params: int, bits: float) -> float:
    """Return the bytes that ``num_params`` weights of ``bits`` bits each take.

    ``bits`` may be a fraction: NF4 with doubly quantised constants takes 4.127 bits per weight
    (QLoRA, https://arxiv.org/abs/2305.14314, section 3).
    """
    return num_params * bits / 8


def training_bytes(
    num_params: int,
    trainable_params: int,
    weight_bits: float = 16,
    grad_bits: float = 16,
    optimizer_bits: float = 64,
    master_bits: float = 32,
) -> float:
    """Return the bytes a training run holds all the time; activations come on top.

    The defaults are mixed precision with AdamW, 16 bytes for a trainable parameter (ZeRO,
    https://arxiv.org/abs/1910.02054, section 3.1).

    Args:
        num_params: All parameters, frozen ones included: each has a weight.
        trainable_params: Those that are trained: only they have the other three.
        weight_bits: Bits of a weight as the model computes with it.
        grad_bits: Bits of a gradient.
        optimizer_bits: Bits of optimizer state for a parameter; 64 is AdamW's two float32 moments.
        master_bits: Bits of the optimizer's own copy of a weight; 0 where there is none.
    """
    trained = weight_bytes(trainable_params, grad_bits + optimizer_bits + master_bits)
    return weight_bytes(num_params, weight_bits) + trained


def usable_bytes(meminfo: str, cuda_free: int, unified: bool) -> int:
    """Return the bytes a run may still take.

    Args:
        meminfo: The text of ``/proc/meminfo``.
        cuda_free: What ``torch.cuda.mem_get_info()`` calls free, in bytes.
        unified: Whether CPU and GPU share one memory, as on a DGX Spark.

    Raises:
        KeyError: unified, and the text has no MemAvailable (a kernel before 3.14).
    """
    if not unified:
        return cuda_free
    lines = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * KIB


def enable_checkpointing(model: PreTrainedModel) -> PreTrainedModel:
    """Make ``model`` recompute its activations in the backward pass; return it, in train mode.

    Transformers checkpoints in train mode only. Before 5.x the method was called
    ``gradient_checkpointing_enable``; that name still works, with a warning.
    """
    model.activation_checkpointing_enable()
    model.train()
    return model


def mixed_precision_step(
    model: nn.Module, batch: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> float:
    """Take one training step, forward in bfloat16 autocast, and return its loss.

    Parameters, gradients and optimizer state stay float32. bfloat16 has float32's range, so no
    gradient scaler is needed (it is for float16).
    """
    device = next(model.parameters()).device.type
    optimizer.zero_grad()
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    return float(loss.item())


def half_precision_for(values: Tensor) -> torch.dtype:
    """Return the 16-bit dtype whose range holds ``values`` (float32, finite, any shape).

    That is float16 if none of them becomes infinite in it (beyond 65504) and none but zero becomes
    zero (below about 3e-8), and bfloat16 otherwise. Rounding is not asked about: both round.
    """
    half = values.to(torch.float16)
    overflows = half.isinf().any()
    vanishes = ((half == 0) & (values != 0)).any()
    return torch.bfloat16 if overflows or vanishes else torch.float16


def fragmentation(stats: dict[str, int]) -> float:
    """Return the share of the reserved memory that lies in inactive pieces of split segments.

    Args:
        stats: What ``torch.cuda.memory_stats()`` returns on a GPU.
    """
    reserved = stats["reserved_bytes.all.current"]
    return stats["inactive_split_bytes.all.current"] / reserved if reserved else 0.0


def releasable_bytes(stats: dict[str, int]) -> int:
    """Return the bytes that ``torch.cuda.empty_cache()`` can hand back to the driver.

    Only a segment that no live block lies in can be handed back, so neither active blocks nor the
    inactive pieces beside them count.
    """
    held = stats["active_bytes.all.current"] + stats["inactive_split_bytes.all.current"]
    return stats["reserved_bytes.all.current"] - held


def release(objects: list[Any]) -> None:
    """Let go of ``objects``, emptying the caller's list, and hand freed GPU memory back.

    The order matters: memory is free when nothing refers to it; objects in a reference cycle refer
    to themselves until the collector runs; only what is free by then can leave the cache.
    """
    objects.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""What bitsandbytes does in 4 and 8 bits: packing, a product, an optimizer's step."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from verify.computing import BF16, FLOAT32, computing, device, mend, where, worst
from verify.machine import Fault

# The 16 values that NF4 has for a weight, as a share of the largest in its block of 64.
# QLoRA (Dettmers et al., 2023), appendix E: https://arxiv.org/abs/2305.14314
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_BLOCK = 64
_SLACK = 1e-3  # of the largest: a weight halfway between two values may go to either
_RATE = 0.01
_STEPS = 2  # the first has nothing to remember: only the second reads what 8 bits have kept
# How far two steps of AdamW may end from those in 32 bits, in learning rates: on average, and at
# most. bitsandbytes 0.50.2 on a CPU, 200 seeds: 0.006 and 0.64.
_MEAN, _MOST = 0.05, 2.0
_NO_LIBRARY = "bitsandbytes has no working library for this processor"


def pack(weights: Tensor) -> str:
    """Return how far NF4 puts weights off; raise `Fault` unless each went to its nearest value.

    Args:
        weights: float32, a multiple of 64 in all.
    """
    from bitsandbytes import functional  # noqa: PLC0415 - on a GPU it initialises CUDA

    with computing("Packing weights with bitsandbytes"):
        packed, state = functional.quantize_4bit(
            weights.to(device()), blocksize=_BLOCK, quant_type="nf4"
        )
        came = functional.dequantize_4bit(packed, state).float().cpu()
    blocks, back = weights.view(-1, _BLOCK), came.view(-1, _BLOCK)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks.unsqueeze(-1) / largest.unsqueeze(-1) - torch.tensor(_NF4)).abs().amin(-1)
    error = (back - blocks).abs() / largest
    beyond = float((error - nearest).max())
    mean = float(error.mean())
    small = packed.numel() * packed.element_size() * 2 == weights.numel()
    if not (beyond <= _SLACK and mean > 0 and small):
        raise Fault(
            f"Weights came back from NF4 on {where()} with a mean error of {mean:.4f} of the "
            f"largest in their block, and {beyond:.4f} beyond the nearest value at worst; "
            f"{packed.numel() * packed.element_size()} bytes for {weights.numel()} weights.",
            _NO_LIBRARY,
            mend(),
        )
    return f"on {where()}, mean error {mean:.3f} of the largest weight of a block"


def multiply(inputs: Tensor, weights: Tensor, gradient: Tensor) -> str:
    """Return how far a product with weights in NF4 is off, forwards and backwards, as in QLoRA.

    The reference unpacks the weights and multiplies in float64; `pack` has shown that what is
    unpacked is right. Weights and result are rounded to bfloat16, sums are made in float32.

    Args:
        inputs: float32, (rows, k), k a multiple of 64.
        weights: float32, (n, k).
        gradient: float32, (rows, n): that of the result.

    Raises:
        Fault: it is further off than rounding explains.
    """
    import bitsandbytes  # noqa: PLC0415
    from bitsandbytes import functional  # noqa: PLC0415

    place = device()
    x, g = inputs.bfloat16().to(place).requires_grad_(), gradient.bfloat16().to(place)
    with computing("A product with weights of 4 bits"):
        packed, state = functional.quantize_4bit(
            weights.bfloat16().to(place), blocksize=_BLOCK, quant_type="nf4"
        )
        came = bitsandbytes.matmul_4bit(x, packed.t(), state)  # type: ignore[attr-defined]
        came.backward(g)
        unpacked = functional.dequantize_4bit(packed, state).double().cpu()
    assert x.grad is not None
    forwards = _off(came, x.detach(), unpacked.T)
    backwards = _off(x.grad, g, unpacked)
    if not (forwards <= 1 and backwards <= 1):
        raise Fault(
            f"A product with weights of 4 bits on {where()} is off by {forwards:.1f} times what "
            f"rounding explains, its gradient by {backwards:.1f} times.",
            _NO_LIBRARY,
            mend(),
        )
    return f"on {where()}, {max(forwards, backwards):.2f} of the error that rounding may cause"


def step(weights: Tensor, gradients: Tensor) -> str:
    """Return how far two steps of AdamW with 8 bits of memory end from those with 32.

    Args:
        weights: float32, at least 4096: bitsandbytes keeps 32 bits for fewer.
        gradients: float32, (2, like the weights).

    Raises:
        Fault: they end further apart than 8 bits explain, or it kept more than 8 bits.
    """
    from bitsandbytes.optim import adamw  # noqa: PLC0415

    few = nn.Parameter(weights.clone().to(device()))
    many = nn.Parameter(copy.deepcopy(few.detach()))
    with computing("A step of an 8-bit optimizer"):
        eight: Any = adamw.AdamW8bit([few], lr=_RATE)  # type: ignore[no-untyped-call]
        whole = torch.optim.AdamW([many], lr=_RATE)
        for gradient in gradients[:_STEPS]:
            few.grad, many.grad = gradient.to(device()), gradient.to(device())
            eight.step()
            whole.step()
    kept = {it.dtype for it in eight.state[few].values() if getattr(it, "shape", None) == few.shape}
    apart = ((few - many).abs() / _RATE).detach()
    moved = not torch.equal(few.detach().cpu(), weights)
    if not (moved and kept == {torch.uint8} and apart.mean() <= _MEAN and apart.max() <= _MOST):
        raise Fault(
            f"Two steps of the 8-bit AdamW on {where()} ended {float(apart.mean()):.2f} learning "
            f"rates from those of 32 bits on average, and kept {_names(kept)}.",
            _NO_LIBRARY,
            mend(),
        )
    return f"on {where()}, {float(apart.mean()):.3f} learning rates from the steps of 32 bits"


def _off(came: Tensor, left: Tensor, right: Tensor) -> float:
    a = left.cpu().double()
    truth, size = a @ right, a.abs() @ right.abs()
    return worst(
        came.detach().cpu(), truth, BF16 * truth.abs() + (BF16 + 2 * a.shape[1] * FLOAT32) * size
    )


def _names(types: set[torch.dtype]) -> str:
    return ", ".join(sorted(str(it).removeprefix("torch.") for it in types)) or "nothing"

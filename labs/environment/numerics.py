"""Products, a training step and attention in bfloat16, each against what must come out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from verify.computing import BF16, FLOAT32, computing, device, exact_sums, mend, where, worst
from verify.machine import Fault

_BF16_SINCE = (8, 0)  # the compute capability of Ampere, the first with bfloat16 tensor cores


def recognise_gpu() -> str:
    """Return which GPU there is; raise `Fault` if it has no bfloat16 of its own."""
    with computing("Asking for the GPU"):
        name, since = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    told = f"{name}, compute capability {since[0]}.{since[1]}"
    if since < _BF16_SINCE:
        raise Fault(
            f"{told}, has no bfloat16 of its own: it would be imitated, and slow.",
            "the GPU is older than Ampere (8.0)",
            "invoke lab.down && invoke lab.up --variant cpu",
        )
    return told


def multiply(left: Tensor, right: Tensor) -> str:
    """Return how far a product in bfloat16 is off; raise `Fault` if that is more than rounding.

    The reference is the float64 product of the same, already rounded inputs. The result is rounded
    once to bfloat16; before, k products are added in float32, each addition off by 2^-24 of the
    sum of magnitudes at most, twice that where an adder cuts off instead of rounding (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1).

    Args:
        left: float32, (m, k).
        right: float32, (k, n).
    """
    a, b = left.bfloat16(), right.bfloat16()
    with computing("A product in bfloat16"), exact_sums():
        came = (a.to(device()) @ b.to(device())).cpu()
    truth, size = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    off = worst(came, truth, BF16 * truth.abs() + 2 * left.shape[1] * FLOAT32 * size)
    if came.dtype != torch.bfloat16 or not off <= 1:  # NaN is no pass
        raise Fault(
            f"A product in bfloat16 on {where()} came back as {came.dtype} and is off by "
            f"{off:.1f} times what rounding explains.",
            "a broken or overheated processor, or a build of torch that does not fit it",
            mend(),
        )
    return f"on {where()}, {off:.2f} of the error that rounding may cause"


def train_one_step(inputs: Tensor, targets: Tensor) -> str:
    """Return the data types of one training step under autocast; raise `Fault` if they are others.

    Args:
        inputs: float32, (batch, features).
        targets: int64, (batch,), in 0 <= x < 8.
    """
    place = device()
    model = nn.Linear(inputs.shape[1], 8).to(place)
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with computing("A training step under autocast"):
        with torch.autocast(place.type, dtype=torch.bfloat16):
            scores = model(inputs.to(place))
        loss = nn.functional.cross_entropy(scores.float(), targets.to(place))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    gradient = model.weight.grad
    assert gradient is not None
    found = f"product {_short(scores)}, gradient {_short(gradient)}, loss {loss.item():.3f}"
    good = scores.dtype == torch.bfloat16 and gradient.dtype == torch.float32
    if not (good and _finite(loss, gradient) and not torch.equal(model.weight, before)):
        raise Fault(
            f"A training step under autocast on {where()} gave {found}; expected are a bfloat16 "
            "product, a float32 gradient, finite numbers and changed weights.",
            "autocast is not at work in this build of torch, or the processor miscomputes",
            mend(),
        )
    return f"on {where()}: {found}"


def attend(query: Tensor, key: Tensor, value: Tensor) -> str:
    """Return how far causal attention is off (the labs' ``sdpa``); raise `Fault` if it is too far.

    The reference is softmax(q kT / sqrt(d)) v in float64, each position seeing itself and what
    comes before. The weights, which add up to 1, and the result are rounded to bfloat16, so of the
    sum of magnitudes an error of 2^-8 is allowed besides the last rounding.

    Args:
        query: float32, (batch, heads, length, d).
        key: Like it.
        value: Like it.
    """
    q, k, v = (it.bfloat16() for it in (query, key, value))
    with computing("Attention in bfloat16"):
        place = device()
        came = nn.functional.scaled_dot_product_attention(
            q.to(place), k.to(place), v.to(place), is_causal=True
        ).cpu()
    scores = q.double() @ k.double().mT / query.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    shares = scores.masked_fill(later, -torch.inf).softmax(-1)
    truth, size = shares @ v.double(), shares @ v.double().abs()
    off = worst(came, truth, BF16 * truth.abs() + BF16 * size)
    if came.dtype != torch.bfloat16 or not off <= 1:
        raise Fault(
            f"Attention (sdpa) on {where()} is off by {off:.1f} times what rounding explains.",
            "the kernel of attention that torch takes here does not fit this processor",
            mend(),
        )
    return f"on {where()}, {off:.2f} of the error that rounding may cause"


def _short(it: Tensor) -> str:
    return str(it.dtype).removeprefix("torch.")


def _finite(*given: Tensor) -> bool:
    return all(bool(it.isfinite().all()) for it in given)

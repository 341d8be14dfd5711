"""Small computations whose right answer is known: in bfloat16, under autocast, in NF4."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from verify.machine import Fault

# Significant bits: bfloat16 has 8, so rounding to nearest is off by 2^-8 of the value at most;
# float32 has 24. https://docs.pytorch.org/docs/stable/type_info.html
_BF16 = 2.0**-8
_FLOAT32 = 2.0**-24
_BF16_SINCE = (8, 0)  # the compute capability of Ampere, the first with bfloat16 tensor cores

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


def recognise_gpu() -> str:
    """Return which GPU there is; raise `Fault` if it has no bfloat16 of its own."""
    with _computing("Asking for the GPU"):
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
    with _computing("A product in bfloat16"), _exact_sums():
        came = (a.to(_device()) @ b.to(_device())).cpu()
    truth, size = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    allowed = _BF16 * truth.abs() + 2 * left.shape[1] * _FLOAT32 * size
    worst = float(((came.double() - truth).abs() / allowed).max())
    if came.dtype != torch.bfloat16 or not worst <= 1:  # NaN is no pass
        raise Fault(
            f"A product in bfloat16 on {_where()} came back as {came.dtype} and is off by "
            f"{worst:.1f} times what rounding explains.",
            "a broken or overheated processor, or a build of torch that does not fit it",
            _mend(),
        )
    return f"on {_where()}, {worst:.2f} of the error that rounding may cause"


def train_one_step(inputs: Tensor, targets: Tensor) -> str:
    """Return the data types of one training step under autocast; raise `Fault` if they are others.

    Args:
        inputs: float32, (batch, features).
        targets: int64, (batch,), in 0 <= x < 8.
    """
    where = _device()
    model = nn.Linear(inputs.shape[1], 8).to(where)
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with _computing("A training step under autocast"):
        with torch.autocast(where.type, dtype=torch.bfloat16):
            scores = model(inputs.to(where))
        loss = nn.functional.cross_entropy(scores.float(), targets.to(where))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    gradient = model.weight.grad
    assert gradient is not None
    found = f"product {_short(scores)}, gradient {_short(gradient)}, loss {loss.item():.3f}"
    good = scores.dtype == torch.bfloat16 and gradient.dtype == torch.float32
    if not (good and _finite(loss, gradient) and not torch.equal(model.weight, before)):
        raise Fault(
            f"A training step under autocast on {_where()} gave {found}; expected are a bfloat16 "
            "product, a float32 gradient, finite numbers and changed weights.",
            "autocast is not at work in this build of torch, or the processor miscomputes",
            _mend(),
        )
    return f"on {_where()}: {found}"


def pack(weights: Tensor) -> str:
    """Return how far NF4 puts weights off; raise `Fault` unless each went to its nearest value.

    Args:
        weights: float32, a multiple of 64 in all.
    """
    from bitsandbytes import functional  # noqa: PLC0415 - on a GPU it initialises CUDA

    with _computing("Packing weights with bitsandbytes"):
        packed, state = functional.quantize_4bit(
            weights.to(_device()), blocksize=_BLOCK, quant_type="nf4"
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
            f"Weights came back from NF4 on {_where()} with a mean error of {mean:.4f} of the "
            f"largest in their block, and {beyond:.4f} beyond the nearest value at worst; "
            f"{packed.numel() * packed.element_size()} bytes for {weights.numel()} weights.",
            "bitsandbytes has no working library for this processor",
            _mend(),
        )
    return f"on {_where()}, mean error {mean:.3f} of the largest weight of a block"


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _where() -> str:
    return "the GPU" if torch.cuda.is_available() else "the CPU"


def _mend() -> str:
    if torch.cuda.is_available():
        return "nvidia-smi  # on the host: is all well? Without the GPU: lab.up --variant cpu"
    return "invoke lab.down && invoke lab.up  # then this again"


def _short(it: Tensor) -> str:
    return str(it.dtype).removeprefix("torch.")


def _finite(*given: Tensor) -> bool:
    return all(bool(it.isfinite().all()) for it in given)


@contextlib.contextmanager
def _exact_sums() -> Iterator[None]:
    """Have a GPU add in float32: by default it may add parts of a sum in bfloat16.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#reduced-precision-reduction-in-bf16-gemms
    """
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


@contextlib.contextmanager
def _computing(what: str) -> Iterator[None]:
    """Tell a computation that cannot be done from one that comes out wrong."""
    try:
        yield
    except (RuntimeError, NotImplementedError, OSError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise Fault(
            f"{what} ended on {_where()} in {type(error).__name__}: {first}",
            "driver, processor and libraries do not fit together, or memory ran out",
            _mend(),
        ) from error

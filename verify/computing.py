"""Small computations whose right answer is known: where they are done, and what is said if not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import torch

from verify.machine import Fault

# Significant bits: bfloat16 has 8, so rounding to nearest is off by 2^-8 of the value at most;
# float32 has 24. https://docs.pytorch.org/docs/stable/type_info.html
BF16: Final = 2.0**-8
FLOAT32: Final = 2.0**-24


def device() -> torch.device:
    """Return the first GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def where() -> str:
    """Return where it is computed, in words."""
    return "the GPU" if torch.cuda.is_available() else "the CPU"


def mend() -> str:
    """Return what to type when something was computed wrongly."""
    if torch.cuda.is_available():
        return "nvidia-smi  # on the host: is all well? Without the GPU: lab.up --variant cpu"
    return "invoke lab.down && invoke lab.up  # then this again"


def worst(came: torch.Tensor, truth: torch.Tensor, allowed: torch.Tensor) -> float:
    """Return the largest error as a share of what is allowed; NaN where one is not a number.

    Args:
        came: What was computed.
        truth: float64, what is right.
        allowed: float64, how far off each may be.
    """
    return float(((came.double() - truth).abs() / allowed).max())


@contextlib.contextmanager
def computing(what: str) -> Iterator[None]:
    """Tell a computation that cannot be done from one that comes out wrong."""
    try:
        yield
    except (RuntimeError, NotImplementedError, OSError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise Fault(
            f"{what} ended on {where()} in {type(error).__name__}: {first}",
            "driver, processor and libraries do not fit together, or memory ran out",
            mend(),
        ) from error


@contextlib.contextmanager
def exact_sums() -> Iterator[None]:
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

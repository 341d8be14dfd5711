"""Whether what came back is right: every right answer, however written, and no wrong one."""

from __future__ import annotations

import math

import torch

from verify.plain import Array, Opaque, Plain, Raised
from verify.tensors import to_tensor

RTOL = 1e-4  # of the largest magnitude in the truth: float32 arithmetic in another order
ATOL = 1e-6
_TELLING = frozenset({"NotImplementedError", "ZeroDivisionError", "OverflowError", "MemoryError"})


def same(came: Plain, truth: Plain, *, rtol: float = RTOL, atol: float = ATOL) -> bool:
    """Tell whether ``came`` equals ``truth`` within ``atol + rtol * max(abs(truth))``.

    An int may stand where a float is meant and a 0-d tensor where a number is; a bool may not.
    Shapes, lengths and keys must be equal; a floating dtype may be another one. Two exceptions are
    the same if type and text are (for a few telling types the type is enough), two opaque values
    if their types are. NaN equals NaN only.
    """
    came, truth = number(came), number(truth)
    if isinstance(truth, bool) or isinstance(came, bool):
        return came is truth
    if isinstance(truth, int | float):
        return isinstance(came, int | float) and _close(came, truth, rtol, atol)
    if isinstance(truth, Array):
        return isinstance(came, Array) and _tensors_close(came, truth, rtol, atol)
    if isinstance(truth, list):
        return (
            isinstance(came, list)
            and len(came) == len(truth)
            and all(same(c, t, rtol=rtol, atol=atol) for c, t in zip(came, truth, strict=True))
        )
    if isinstance(truth, dict):
        return (
            isinstance(came, dict)
            and came.keys() == truth.keys()
            and all(same(came[key], truth[key], rtol=rtol, atol=atol) for key in truth)
        )
    if isinstance(truth, Raised):
        return isinstance(came, Raised) and _alike(came, truth)
    if isinstance(truth, Opaque):
        return isinstance(came, Opaque) and came.type == truth.type
    return type(came) is type(truth) and came == truth


def _alike(came: Raised, truth: Raised) -> bool:
    """Compare exceptions by type, and by text where the type alone does not say what went wrong."""
    return came.type == truth.type and (came.type in _TELLING or came.text == truth.text)


def number(value: Plain) -> Plain:
    """Return a 0-d tensor as the number it holds; anything else as it is."""
    if isinstance(value, Array) and value.shape == ():
        return to_tensor(value).item()
    return value


def _close(came: float, truth: float, rtol: float, atol: float) -> bool:
    if isinstance(came, int) and isinstance(truth, int) and rtol == 0 and atol == 0:
        return came == truth
    try:
        came, truth = float(came), float(truth)
    except OverflowError:
        return False
    if math.isnan(came) or math.isnan(truth):
        return math.isnan(came) and math.isnan(truth)
    if math.isinf(came) or math.isinf(truth):
        return came == truth
    return abs(came - truth) <= atol + rtol * abs(truth)


def _tensors_close(came: Array, truth: Array, rtol: float, atol: float) -> bool:
    floating = ("float16", "bfloat16", "float32", "float64")
    if came.shape != truth.shape or (came.dtype in floating) != (truth.dtype in floating):
        return False
    if truth.dtype not in floating:
        return torch.equal(to_tensor(came).to(torch.int64), to_tensor(truth).to(torch.int64))
    left, right = to_tensor(came).double(), to_tensor(truth).double()
    finite = right[right.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(left, right, rtol=0.0, atol=atol + rtol * scale, equal_nan=True)

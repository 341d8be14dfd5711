"""Torch's objects to plain data and back."""

from __future__ import annotations

import numpy as np
import torch

from verify.plain import DTYPES, Array, Opaque, Plain, Raised

_SHORT = 200  # characters of a text about something that is not plain
_DEEPEST = 20


def to_array(tensor: torch.Tensor) -> Array:
    """Return a tensor's dtype, shape and elements; any device, with or without a graph."""
    name = str(tensor.dtype).removeprefix("torch.")
    flat = tensor.detach().reshape(-1)
    # A copy: of one element or none, a tensor keeps its stride, and so has no view as bytes.
    data = torch.empty(flat.shape, dtype=flat.dtype, device="cpu").copy_(flat)
    return Array(name, tuple(tensor.shape), data.view(torch.uint8).numpy().tobytes())


def to_tensor(array: Array) -> torch.Tensor:
    """Return a new CPU tensor that holds what ``array`` describes and shares no memory with it."""
    dtype: torch.dtype = getattr(torch, array.dtype)
    if not array.data:
        return torch.empty(array.shape, dtype=dtype)
    return torch.frombuffer(bytearray(array.data), dtype=dtype).reshape(array.shape)


def plain(value: object, _depth: int = 0) -> Plain:
    """Return ``value`` as plain data; what is not plain becomes an `Opaque` with its type's name.

    Tensors become `Array`, dtypes and devices their names (``"bfloat16"``, ``"cuda:0"``), tuples
    lists, numpy numbers Python numbers. Never raises for a strange value.
    """
    if value is None or type(value) in (bool, int, float, str, bytes, Array, Opaque, Raised):
        return value  # type: ignore[return-value]
    if _depth > _DEEPEST:
        return opaque(value)
    if isinstance(value, torch.Tensor):
        return to_array(value) if _is_sendable(value) else opaque(value)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item, _depth + 1) for item in value]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: plain(item, _depth + 1) for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray) and value.shape == ():
        return plain(value.item(), _depth + 1)
    return opaque(value)


def _is_sendable(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor's elements lie in memory one after the other, and may cross."""
    name = str(tensor.dtype).removeprefix("torch.")
    lies = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested)
    return name in DTYPES and lies


def opaque(value: object) -> Opaque:
    """Return the type's name and a short text of ``value``, whatever its ``repr`` does."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - learner code may raise anything from repr
        text = f"<its repr raised {type(error).__name__}>"
    return Opaque(str(type(value).__name__)[:_SHORT], str(text)[:_SHORT])


def from_plain(value: Plain) -> object:
    """Return plain data with every `Array` as a new tensor; everything else as it is, copied."""
    if isinstance(value, Array):
        return to_tensor(value)
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: from_plain(item) for key, item in value.items()}
    return value

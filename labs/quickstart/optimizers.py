"""What an optimizer keeps for the weights it updates, in bytes; and the optimizers themselves.

- AdamW keeps two moments, of the weight's type: https://arxiv.org/abs/1711.05101
- its 8-bit form, a byte for each and a float32 scale for each block of 256: Dettmers et al. 2022,
  https://arxiv.org/abs/2110.02861. A tensor of less than 4096 elements keeps float32 moments
  (bitsandbytes 0.50, `min_8bit_size`); under Trainer an embedding does, too, here it does not.
- SGD without momentum keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import torch
from torch import nn

Kind = Literal["adamw", "adamw-8bit", "sgd"]
Tensors = Sequence[tuple[int, int]]
"""How many tensors there are, and of how many elements each of them is."""

SMALLEST_IN_8_BITS: Final = 4096  # elements of a tensor
BLOCK: Final = 256  # elements that share a scale


def state_bytes(kind: Kind, tensors: Tensors, each: int) -> int:
    """Return the bytes that ``kind`` keeps for ``tensors`` of elements of ``each`` bytes."""
    if kind == "sgd":
        return 0
    if kind == "adamw":
        return sum(count * 2 * size * each for count, size in tensors)
    return sum(count * _in_8_bits(size) for count, size in tensors)


def make(kind: Kind, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return an optimizer whose step makes no tensor besides its state."""
    if kind == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=1e-4, fused=True)
    from bitsandbytes.optim.adamw import AdamW8bit  # noqa: PLC0415 - only where it is asked for

    made = AdamW8bit(parameters, lr=1e-4)  # type: ignore[no-untyped-call]
    assert isinstance(made, torch.optim.Optimizer)
    return made


def _in_8_bits(size: int) -> int:
    if size < SMALLEST_IN_8_BITS:
        return 2 * 4 * size
    return 2 * (size + 4 * -(-size // BLOCK))

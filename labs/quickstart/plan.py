"""How a model is trained, as far as its memory depends on it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from labs.quickstart.optimizers import Kind

Method = Literal["full", "lora", "qlora"]
Precision = Literal["mixed", "float32", "bfloat16"]
Targets = Literal["all-linear", "attention"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a model is trained.

    Attributes:
        method: ``full`` trains all weights, ``lora`` adapters beside frozen weights, ``qlora`` the
            same beside frozen weights in NF4.
        batch: Rows of one forward pass.
        length: Tokens of a row, padding included.
        precision: ``mixed``: products in bfloat16 by autocast, float32 where something is trained,
            frozen weights bfloat16. ``float32`` and ``bfloat16``: everything is.
        checkpointing: Whether a block keeps its input only and runs again in backward.
        accumulate: Forward passes to one update; with more than one, gradients never go away.
        rank: Of the adapters.
        targets: Which linear layers of a block have adapters.
        optimizer: What updates the trained weights.
    """

    method: Method
    batch: int
    length: int
    precision: Precision = "mixed"
    checkpointing: bool = False
    accumulate: int = 1
    rank: int = 16
    targets: Targets = "all-linear"
    optimizer: Kind = "adamw"

    @property
    def tokens(self) -> int:
        """Tokens of one forward pass."""
        return self.batch * self.length

    @property
    def product(self) -> int:
        """Bytes of a number that a matrix product returns, and of a frozen weight not in NF4."""
        return 4 if self.precision == "float32" else 2

    @property
    def trained(self) -> int:
        """Bytes of a trained weight, of its gradient, and of each of AdamW's two moments."""
        return 2 if self.precision == "bfloat16" else 4

    @property
    def stream(self) -> int:
        """Bytes of a number of the residual stream: those of the embedding's weights."""
        return self.trained if self.method == "full" else self.product

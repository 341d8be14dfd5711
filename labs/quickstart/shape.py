"""The shape of a Llama-like model, read from its config alone: no weight is loaded or made.

A Transformers model built on torch's *meta* device has every parameter's shape and no storage
(https://docs.pytorch.org/docs/stable/meta.html), so a model of 70 billion parameters takes a
second and no memory.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoModelForCausalLM

KNOWN: Final = ("llama", "mistral", "qwen2", "qwen3", "phi3")
"""Model types whose decoder block is the one that `labs.quickstart.memory` counts."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear layer: ``kind`` is the last part of its name; shapes in elements."""

    kind: str
    inputs: int
    outputs: int

    @property
    def size(self) -> int:
        """Elements of its weight, without a bias."""
        return self.inputs * self.outputs


@dataclasses.dataclass(frozen=True)
class Shape:
    """What decides how much memory a decoder takes. All are counts of elements.

    Attributes:
        vocabulary: Rows of the embedding, and outputs of the head.
        width: Of the residual stream.
        mlp: Of the inner layer of the MLP.
        depth: Decoder blocks.
        heads: Query heads.
        kv_heads: Key and value heads.
        head: Width of a head.
        linears: The linear layers of one block, in the model's order.
        small: All other parameters: norms and biases.
        tied: Whether embedding and head are one matrix.
        qk_norm: Whether queries and keys are normalised, head by head (Qwen3).
        window: Tokens from which on attention needs a mask, where it looks back so far only.
    """

    vocabulary: int
    width: int
    mlp: int
    depth: int
    heads: int
    kv_heads: int
    head: int
    linears: tuple[Linear, ...]
    small: int
    tied: bool
    qk_norm: bool = False
    window: int | None = None

    @property
    def fused(self) -> bool:
        """Whether q, k, v come out of one product, and gate and up out of another (Phi-3)."""
        return any(linear.kind == "qkv_proj" for linear in self.linears)

    @property
    def block(self) -> int:
        """Elements of the linear weights of one block."""
        return sum(linear.size for linear in self.linears)

    @property
    def embedding(self) -> int:
        """Elements of embedding and head: one matrix where they are tied, else two."""
        return self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """Elements of all parameters."""
        return self.depth * self.block + self.embedding + self.small


def read(config: Any) -> Shape:
    """Return the shape of the causal language model that a Transformers ``config`` describes."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    block = decoder.layers[0]
    linears = tuple(
        Linear(name.rpartition(".")[2], it.in_features, it.out_features)
        for name, it in block.named_modules()
        if isinstance(it, nn.Linear)
    )
    vocabulary, width = head.weight.shape
    tied = head.weight is decoder.get_input_embeddings().weight
    embedding = math.prod(head.weight.shape) * (1 if tied else 2)
    total = sum(it.numel() for it in {id(it): it for it in model.parameters()}.values())
    depth = len(decoder.layers)
    heads = config.num_attention_heads
    return Shape(
        vocabulary=vocabulary,
        width=width,
        mlp=config.intermediate_size,
        depth=depth,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head=getattr(config, "head_dim", None) or width // heads,
        linears=linears,
        small=total - embedding - depth * sum(it.size for it in linears),
        tied=tied,
        qk_norm=any("q_norm" in name for name, _ in block.named_modules()),
        window=getattr(config, "sliding_window", None),
    )

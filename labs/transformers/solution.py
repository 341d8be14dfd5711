"""The reference solution of the transformers lab."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Part = Callable[[Tensor], Tensor]


def components(model: nn.Module) -> dict[str, list[str]]:
    """Return the dotted names of a decoder's attention blocks, MLP blocks and norms.

    The name of a block is the last part of its path: ``self_attn``, ``mlp``, or one that ends in
    ``norm`` (two in a layer and the final one). What lies inside a block has another last part.

    Args:
        model: A causal language model of the Llama, Mistral, Qwen2 or Phi-3 family, itself or
            somewhere inside ``model``.

    Returns:
        The names under "attention", "mlp" and "norm", in the order of ``named_modules``.
    """
    found: dict[str, list[str]] = {"attention": [], "mlp": [], "norm": []}
    for name, _ in model.named_modules():
        last = name.rpartition(".")[2]
        if last == "self_attn":
            found["attention"].append(name)
        elif last == "mlp":
            found["mlp"].append(name)
        elif last.endswith("norm"):
            found["norm"].append(name)
    return found


def attention_projections(model: nn.Module) -> list[str]:
    """Return the last parts of the names of all linear layers inside attention blocks, sorted.

    It is what LoRA's ``target_modules`` takes when the attention is adapted.

    Args:
        model: As for `components`; the linear layers may have any name.
    """
    blocks = [model.get_submodule(name) for name in components(model)["attention"]]
    return sorted(
        {
            name.rpartition(".")[2]
            for block in blocks
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear)
        }
    )


def causal_attention(
    x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, num_heads: int, num_kv_heads: int
) -> Tensor:
    """Return grouped-query self-attention in which no token sees a later one.

    softmax(q k^T / sqrt(head width)) v for each head (Vaswani et al., 2017,
    https://arxiv.org/abs/1706.03762), keys and values shared by groups of heads (Ainslie et al.,
    2023, https://arxiv.org/abs/2305.13245); no bias, no rotary positions, no dropout.

    Args:
        x: (B, T, D), floating.
        wq: (D, D): out, in.
        wk: (num_kv_heads * D / num_heads, D).
        wv: As ``wk``.
        wo: (D, D).
        num_heads: Query heads; divides D.
        num_kv_heads: Key and value heads; divides ``num_heads``. Head h reads number
            h // (num_heads / num_kv_heads).

    Returns:
        (B, T, D).
    """
    groups = num_heads // num_kv_heads
    q = _heads(x @ wq.T, num_heads)
    k = _heads(x @ wk.T, num_kv_heads).repeat_interleave(groups, dim=1)
    v = _heads(x @ wv.T, num_kv_heads).repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, heads, T, T): query, key
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    merged: Tensor = (weights @ v).transpose(1, 2).flatten(2)  # heads beside each other again
    return merged @ wo.T


def decoder_block(x: Tensor, attention: Part, mlp: Part, norm1: Part, norm2: Part) -> Tensor:
    """Return what a pre-norm decoder block adds up to: two sublayers, each beside the stream.

    Args:
        x: (B, T, D): the residual stream. It is left as it is.
        attention: From (B, T, D) to (B, T, D), as are the others.
        mlp: The second sublayer.
        norm1: What the attention's input goes through.
        norm2: What the MLP's input goes through.

    Returns:
        (B, T, D).
    """
    h = x + attention(norm1(x))
    return h + mlp(norm2(h))


def _heads(projected: Tensor, count: int) -> Tensor:
    """Return (B, T, count * width) as (B, count, T, width)."""
    heads: Tensor = projected.unflatten(-1, (count, -1))
    return heads.transpose(1, 2)

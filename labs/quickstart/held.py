"""What training holds from step to step: weights, adapters, the optimizer's state, gradients.

NF4 with double quantisation, 4.127 bits: Dettmers et al. 2023, https://arxiv.org/abs/2305.14314;
optimizers: `labs.quickstart.optimizers`.
"""

from __future__ import annotations

from typing import Final

from labs.quickstart import optimizers
from labs.quickstart.optimizers import Tensors
from labs.quickstart.plan import Plan
from labs.quickstart.shape import Linear, Shape

ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj")

NF4_BITS: Final = 4 + 8 / 64 + 32 / (64 * 256)
"""4 bits; 8 for every 64 weights' scale; 32 for every 256 scales' scale."""
_NF4_TABLES: Final = 4 * (16 + 256 + 1)  # of one layer: NF4's 16 values, the scales' 256, an offset

Parts = dict[str, int]
"""Bytes by part: weights, adapters, optimizer, gradients, activations, logits, working."""


def targeted(shape: Shape, plan: Plan) -> tuple[Linear, ...]:
    """Return the linear layers of one block that have an adapter."""
    if plan.method == "full":
        return ()
    return tuple(it for it in shape.linears if plan.targets != "attention" or it.kind in ATTENTION)


def adapter_parameters(shape: Shape, plan: Plan) -> int:
    """Return the parameters of all adapters: ``r * (in + out)`` for every targeted layer."""
    per_block = sum(it.inputs + it.outputs for it in targeted(shape, plan))
    return shape.depth * plan.rank * per_block


def trained_parameters(shape: Shape, plan: Plan) -> int:
    """Return how many parameters are trained."""
    return shape.parameters if plan.method == "full" else adapter_parameters(shape, plan)


def weights(shape: Shape, plan: Plan) -> Parts:
    """Return the bytes of the weights: those of the blocks in NF4, or all of them, and adapters.

    Embedding, head and norms are never quantised; each NF4 layer has small tables of its own.
    """
    if plan.method == "full":
        return {"weights": shape.parameters * plan.trained}
    adapters = adapter_parameters(shape, plan) * plan.trained
    linear, rest = shape.depth * shape.block, shape.embedding + shape.small
    if plan.method == "lora":
        return {"weights": (linear + rest) * plan.product, "adapters": adapters}
    quantised = sum(nf4_bytes(shape))
    return {"NF4 weights": quantised, "weights": rest * plan.product, "adapters": adapters}


def nf4_bytes(shape: Shape) -> tuple[int, int]:
    """Return what the blocks' weights take in NF4: their 4 bits each, and the constants."""
    linear = shape.depth * shape.block
    tables = shape.depth * len(shape.linears) * _NF4_TABLES
    return linear // 2, round(linear * (NF4_BITS - 4) / 8) + tables


def gradient_bytes(shape: Shape, plan: Plan) -> int:
    """Return the bytes of the gradients of all that is trained."""
    return trained_parameters(shape, plan) * plan.trained


def optimizer_bytes(shape: Shape, plan: Plan) -> int:
    """Return the bytes of what the optimizer keeps for all that is trained."""
    return optimizers.state_bytes(plan.optimizer, _trained_tensors(shape, plan), plan.trained)


def _trained_tensors(shape: Shape, plan: Plan) -> Tensors:
    """Return the trained tensors: how many there are of which size."""
    if plan.method != "full":
        sides = [side for it in targeted(shape, plan) for side in (it.inputs, it.outputs)]
        return [(shape.depth, plan.rank * side) for side in sides]
    return [
        *((shape.depth, it.size) for it in shape.linears),
        (1 if shape.tied else 2, shape.vocabulary * shape.width),
        (shape.small // shape.width, shape.width),  # norms; biases are counted as if like them
    ]

"""What a forward pass keeps for the backward pass, and the logits.

Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198, counted anew for RMSNorm, SwiGLU, grouped
queries, and fused attention, which keeps no T x T matrix: Dao et al. 2022,
https://arxiv.org/abs/2205.14135; checkpointing: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from typing import Final

from labs.quickstart.held import targeted
from labs.quickstart.plan import Plan
from labs.quickstart.shape import Shape

IDS: Final = 24
"""Bytes that a token's id, label and shifted label take."""

_READ_TOGETHER: Final = (
    ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    ("gate_proj", "up_proj", "gate_up_proj"),
)
"""Layers that read the same tensor."""
_LOSS: Final = 12  # bytes a logit costs at the worst moment, see `logits`


def block_bytes(shape: Shape, plan: Plan) -> int:
    """Return the bytes that one block keeps for backward, per token.

    In the order of the code: the norm's input in float32 and its root; what the projections read
    (where something of theirs is trained); rotated q and k, v, the output and the log-sum-exp of
    fused attention; the second norm; gate, its SiLU, up, and their product where `down` is trained.
    """
    product, full = plan.product, plan.method == "full"
    with_adapter = {it.kind for it in targeted(shape, plan)}
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    kept = 2 * _norm(shape.width, 1, plan.stream, full=full)
    for readers in _READ_TOGETHER:
        reading = [it for it in shape.linears if it.kind in readers]
        if full or with_adapter & set(readers):
            # Autocast makes a 16-bit copy of a float32 input for each layer that reads it.
            copies = len(reading) if product != plan.stream else 1
            kept += copies * product * shape.width
    kept += product * 2 * (queries + keys) + 4 * shape.heads
    if shape.qk_norm:
        kept += _norm(queries + keys, shape.heads + shape.kv_heads, product, full=full)
    if shape.fused:  # v is a part of the one product, which stays whole; the output is copied
        kept += product * (2 * queries + keys)
    kept += product * shape.mlp * (4 if full or "down_proj" in with_adapter else 3)
    return kept + product * plan.rank * len(targeted(shape, plan))


def token_bytes(shape: Shape, plan: Plan) -> tuple[int, int]:
    """Return what is kept for backward per token: by each block, and outside of them."""
    full = plan.method == "full"
    norm = _norm(shape.width, 1, plan.stream, full=full)
    outside = norm + IDS  # the last norm
    if full:
        outside += plan.product * shape.width  # the head's input
    if plan.checkpointing:
        return plan.stream * shape.width, outside
    # What comes before the first adapter needs no gradient: nothing is kept for it.
    unneeded = 0 if full else _norm(shape.width, 1, plan.stream, full=False)
    return block_bytes(shape, plan), outside - unneeded


def kept(shape: Shape, plan: Plan) -> int:
    """Return the bytes kept for backward when the loss is there, logits aside."""
    block, outside = token_bytes(shape, plan)
    return plan.tokens * (shape.depth * block + outside)


def _norm(width: int, rows: int, stream: int, *, full: bool) -> int:
    """Return what an RMSNorm keeps per token: input in float32, root; and for its own weight."""
    return 4 * width + 4 * rows + (stream * width if full else 0)


def logits(shape: Shape, plan: Plan) -> tuple[int, int]:
    """Return the most that logits take in forward and in backward.

    Forward: the logits as computed, in float32, and their log-softmax. Backward: log-softmax, the
    gradient that comes to it and the one that leaves it, each float32: 12 bytes.
    """
    count = plan.tokens * shape.vocabulary
    forward = 4 + 4 + (plan.product if plan.product == 2 else 0)
    return forward * count, _LOSS * count

"""How many bytes a training step will take, by part and by moment, from a model's shape alone.

What is counted are tensors: what `torch.cuda.max_memory_allocated` counts on a GPU. Not counted are
the CUDA context (some 0.5 GB), the workspaces of cuBLAS (8 to 32 MiB for each of two threads), what
the allocator holds in reserve, and room inside a kernel. The formula is that of the code which
runs, line by line: Transformers' Llama block with torch's own attention and no mask, PEFT's LoRA
without dropout, a fused optimizer, bfloat16 by autocast. Its tests compare it with every tensor
that lives during real steps; sources:

- NF4 with double quantisation, 4.127 bits: Dettmers et al. 2023, https://arxiv.org/abs/2305.14314
- what a block keeps for backward: Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198,
  counted anew for RMSNorm, SwiGLU, grouped queries, and fused attention, which keeps no T x T
  matrix: Dao et al. 2022, https://arxiv.org/abs/2205.14135
- checkpointing: Chen et al. 2016, https://arxiv.org/abs/1604.06174
- optimizers: `labs.quickstart.optimizers`
- autocast's 16-bit copies of float32 weights: https://docs.pytorch.org/docs/stable/amp.html
"""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

from labs.quickstart import optimizers
from labs.quickstart.optimizers import Tensors
from labs.quickstart.plan import Method, Plan, Precision, Targets
from labs.quickstart.shape import Linear, Shape

__all__ = ["MOMENTS", "Method", "Moment", "Parts", "Plan", "Precision", "Prediction", "Targets"]

Moment = Literal["loss", "backward", "update"]
MOMENTS: Final[tuple[Moment, ...]] = ("loss", "backward", "update")

_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj")
_READ_TOGETHER: Final = (
    ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    ("gate_proj", "up_proj", "gate_up_proj"),
)
"""Layers that read the same tensor."""

NF4_BITS: Final = 4 + 8 / 64 + 32 / (64 * 256)
"""4 bits; 8 for every 64 weights' scale; 32 for every 256 scales' scale."""
_NF4_TABLES: Final = 4 * (16 + 256 + 1)  # of one layer: NF4's 16 values, the scales' 256, an offset
_IDS: Final = 24  # bytes a token's id, label and shifted label take
_LOSS: Final = 12  # bytes a logit costs at the worst moment, see `_logits`


Parts = dict[str, int]
"""Bytes by part: weights, adapters, optimizer, gradients, activations, logits, working."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a step takes at the three moments at which it can be the most."""

    moments: dict[Moment, Parts]

    def total(self, moment: Moment) -> int:
        """Return the bytes of all parts at ``moment``."""
        return sum(self.moments[moment].values())

    @property
    def peak_at(self) -> Moment:
        """When most is taken."""
        return max(self.moments, key=self.total)

    @property
    def peak(self) -> int:
        """The most bytes that are taken at once."""
        return self.total(self.peak_at)


def predict(shape: Shape, plan: Plan) -> Prediction:
    """Return what a step of ``plan`` takes from the second on, when the optimizer has its state.

    Three moments matter. At the *loss* all activations are there and the logits three times; in
    *backward* activations go while gradients come; at the *update* all gradients are there.
    """
    base = weights(shape, plan) | {"optimizer": optimizer_bytes(shape, plan)}
    loss, backward = _at_loss(shape, plan), _in_backward(shape, plan)
    gradients = gradient_bytes(shape, plan)
    if plan.accumulate > 1:
        loss["gradients"] = gradients
    return Prediction(
        {
            "loss": base | loss,
            "backward": base | backward,
            "update": base | {"gradients": gradients},
        }
    )


def whole(shape: Shape, plan: Plan) -> Parts:
    """Return the bytes of each part when all of it is there, which is at no one moment."""
    return weights(shape, plan) | {
        "optimizer": optimizer_bytes(shape, plan),
        "gradients": gradient_bytes(shape, plan),
        "activations": _kept(shape, plan),
        "logits": max(_logits(shape, plan)),
    }


def targeted(shape: Shape, plan: Plan) -> tuple[Linear, ...]:
    """Return the linear layers of one block that have an adapter."""
    if plan.method == "full":
        return ()
    return tuple(it for it in shape.linears if plan.targets != "attention" or it.kind in _ATTENTION)


def adapter_parameters(shape: Shape, plan: Plan) -> int:
    """Return the parameters of all adapters: ``r * (in + out)`` for every targeted layer."""
    per_block = sum(it.inputs + it.outputs for it in targeted(shape, plan))
    return shape.depth * plan.rank * per_block


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


def trained_parameters(shape: Shape, plan: Plan) -> int:
    """Return how many parameters are trained."""
    return shape.parameters if plan.method == "full" else adapter_parameters(shape, plan)


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


def _at_loss(shape: Shape, plan: Plan) -> Parts:
    """Return the parts that are there when the loss is computed, or its gradient."""
    copies = _copies(shape, plan)
    forward, backward = _logits(shape, plan)
    # With checkpointing the copies last until the forward pass ends; without, until backward.
    if plan.checkpointing:
        logits, working = max((forward, copies), (backward, 0), key=sum)
    else:
        logits, working = max(forward, backward), copies
    return {"activations": _kept(shape, plan), "logits": logits, "working": working}


def _in_backward(shape: Shape, plan: Plan) -> Parts:
    """Return the parts at the worst of four moments: last norm, top block, bottom one, embedding.

    Between the two blocks, what goes and what comes change evenly.
    """
    block = block_bytes(shape, plan) * plan.tokens
    again = block if plan.checkpointing else 0
    copies, of_one = _copies(shape, plan), _copies(shape, plan, blocks=1)
    kept, working = _kept(shape, plan), _working(shape, plan)
    past = plan.tokens * (token_bytes(shape, plan)[1] - _IDS)  # head and last norm have run
    # A norm's backward: five times its input in float32, and the gradient that it returns.
    norm = plan.tokens * shape.width * (5 * 4 + plan.stream) + (0 if again else copies)
    top = working + (of_one if again else copies)
    early, late, most = _arriving(shape, plan)
    moments = (
        {"activations": kept, "gradients": early, "working": norm},
        {"activations": kept - past + again, "gradients": early, "working": top},
        {"activations": block, "gradients": late, "working": working + of_one},
        {"activations": 0, "gradients": most, "working": plan.tokens * plan.stream * shape.width},
    )
    return max(moments, key=lambda parts: sum(parts.values()))


def _arriving(shape: Shape, plan: Plan) -> tuple[int, int, int]:
    """Return the bytes of gradients at the top block, at the bottom one, and at the embedding.

    Those of an earlier pass stay, and what comes is beside them until it is added. Where head and
    embedding are tied, the head's gradient waits for the embedding's, and the sum is a third.
    """
    whole, largest = gradient_bytes(shape, plan), _largest(shape, plan)
    embedding = shape.vocabulary * shape.width * plan.trained if plan.method == "full" else 0
    waiting = embedding if shape.tied else 0
    if plan.accumulate > 1:
        there = whole + waiting + largest
        return there, there, whole + embedding + 2 * waiting
    own = plan.trained * shape.block if plan.method == "full" else whole // shape.depth
    late = whole - own + largest - (0 if shape.tied else embedding)
    return embedding, late, whole + 2 * waiting


def token_bytes(shape: Shape, plan: Plan) -> tuple[int, int]:
    """Return what is kept for backward per token: by each block, and outside of them."""
    full = plan.method == "full"
    norm = _norm(shape.width, 1, plan.stream, full=full)
    outside = norm + _IDS  # the last norm
    if full:
        outside += plan.product * shape.width  # the head's input
    if plan.checkpointing:
        return plan.stream * shape.width, outside
    # What comes before the first adapter needs no gradient: nothing is kept for it.
    unneeded = 0 if full else _norm(shape.width, 1, plan.stream, full=False)
    return block_bytes(shape, plan), outside - unneeded


def _kept(shape: Shape, plan: Plan) -> int:
    """Return the bytes kept for backward when the loss is there, logits aside."""
    block, outside = token_bytes(shape, plan)
    return plan.tokens * (shape.depth * block + outside)


def _norm(width: int, rows: int, stream: int, *, full: bool) -> int:
    """Return what an RMSNorm keeps per token: input in float32, root; and for its own weight."""
    return 4 * width + 4 * rows + (stream * width if full else 0)


def _logits(shape: Shape, plan: Plan) -> tuple[int, int]:
    """Return the most that logits take in forward and in backward.

    Forward: the logits as computed, in float32, and their log-softmax. Backward: log-softmax, the
    gradient that comes to it and the one that leaves it, each float32: 12 bytes.
    """
    count = plan.tokens * shape.vocabulary
    forward = 4 + 4 + (plan.product if plan.product == 2 else 0)
    return forward * count, _LOSS * count


def _working(shape: Shape, plan: Plan) -> int:
    """Return what a block's backward needs besides: gradients on the way, a layer dequantised."""
    passing = plan.tokens * (plan.stream * shape.width + 2 * plan.product * shape.mlp)
    largest = max(it.size for it in shape.linears)
    return passing + (plan.product * largest if plan.method == "qlora" else 0)


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


def _largest(shape: Shape, plan: Plan) -> int:
    """Return the bytes of the largest gradient of a weight of a block."""
    if plan.method == "full":
        return plan.trained * max(it.size for it in shape.linears)
    sides = [max(it.inputs, it.outputs) for it in targeted(shape, plan)]
    return plan.trained * plan.rank * max(sides)


def _copies(shape: Shape, plan: Plan, blocks: int | None = None) -> int:
    """Return the bytes of the 16-bit copies that autocast makes of float32 weights.

    Of head and all blocks, or of ``blocks`` alone.
    """
    if plan.precision != "mixed":
        return 0
    if plan.method != "full":
        return 2 * adapter_parameters(shape, plan) * (blocks or shape.depth) // shape.depth
    head = 0 if blocks else shape.vocabulary * shape.width
    return 2 * ((blocks or shape.depth) * shape.block + head)

"""How many bytes a training step will take, by part and by moment, from a model's shape alone.

What is counted are tensors: what `torch.cuda.max_memory_allocated` counts on a GPU. Not counted are
the CUDA context (some 0.5 GB), the workspaces of cuBLAS (8 to 32 MiB for each of two threads), what
the allocator holds in reserve, and room inside a kernel. The formula is that of the code which
runs, line by line: Transformers' Llama block with torch's own attention and no mask, PEFT's LoRA
without dropout, a fused optimizer, bfloat16 by autocast. Its tests compare it with every tensor
that lives during real steps. Sources are with `labs.quickstart.held` (what stays) and
`labs.quickstart.activations` (what is kept for backward); autocast's 16-bit copies of float32
weights: https://docs.pytorch.org/docs/stable/amp.html.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

from labs.quickstart import activations, held
from labs.quickstart.held import Parts
from labs.quickstart.plan import Plan
from labs.quickstart.shape import Shape

Moment = Literal["loss", "backward", "update"]
MOMENTS: Final[tuple[Moment, ...]] = ("loss", "backward", "update")


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
    base = held.weights(shape, plan) | {"optimizer": held.optimizer_bytes(shape, plan)}
    loss, backward = _at_loss(shape, plan), _in_backward(shape, plan)
    gradients = held.gradient_bytes(shape, plan)
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
    return held.weights(shape, plan) | {
        "optimizer": held.optimizer_bytes(shape, plan),
        "gradients": held.gradient_bytes(shape, plan),
        "activations": activations.kept(shape, plan),
        "logits": max(activations.logits(shape, plan)),
    }


def _at_loss(shape: Shape, plan: Plan) -> Parts:
    """Return the parts that are there when the loss is computed, or its gradient."""
    copies = _copies(shape, plan)
    forward, backward = activations.logits(shape, plan)
    # With checkpointing the copies last until the forward pass ends; without, until backward.
    if plan.checkpointing:
        logits, working = max((forward, copies), (backward, 0), key=sum)
    else:
        logits, working = max(forward, backward), copies
    return {"activations": activations.kept(shape, plan), "logits": logits, "working": working}


def _in_backward(shape: Shape, plan: Plan) -> Parts:
    """Return the parts at the worst of four moments: last norm, top block, bottom one, embedding.

    Between the two blocks, what goes and what comes change evenly.
    """
    block = activations.block_bytes(shape, plan) * plan.tokens
    again = block if plan.checkpointing else 0
    copies, of_one = _copies(shape, plan), _copies(shape, plan, blocks=1)
    kept, working = activations.kept(shape, plan), _working(shape, plan)
    # Head and last norm have run.
    past = plan.tokens * (activations.token_bytes(shape, plan)[1] - activations.IDS)
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
    whole, largest = held.gradient_bytes(shape, plan), _largest(shape, plan)
    embedding = shape.vocabulary * shape.width * plan.trained if plan.method == "full" else 0
    waiting = embedding if shape.tied else 0
    if plan.accumulate > 1:
        there = whole + waiting + largest
        return there, there, whole + embedding + 2 * waiting
    own = plan.trained * shape.block if plan.method == "full" else whole // shape.depth
    late = whole - own + largest - (0 if shape.tied else embedding)
    return embedding, late, whole + 2 * waiting


def _working(shape: Shape, plan: Plan) -> int:
    """Return what a block's backward needs besides: gradients on the way, a layer dequantised."""
    passing = plan.tokens * (plan.stream * shape.width + 2 * plan.product * shape.mlp)
    largest = max(it.size for it in shape.linears)
    return passing + (plan.product * largest if plan.method == "qlora" else 0)


def _largest(shape: Shape, plan: Plan) -> int:
    """Return the bytes of the largest gradient of a weight of a block."""
    if plan.method == "full":
        return plan.trained * max(it.size for it in shape.linears)
    sides = [max(it.inputs, it.outputs) for it in held.targeted(shape, plan)]
    return plan.trained * plan.rank * max(sides)


def _copies(shape: Shape, plan: Plan, blocks: int | None = None) -> int:
    """Return the bytes of the 16-bit copies that autocast makes of float32 weights.

    Of head and all blocks, or of ``blocks`` alone.
    """
    if plan.precision != "mixed":
        return 0
    if plan.method != "full":
        return 2 * held.adapter_parameters(shape, plan) * (blocks or shape.depth) // shape.depth
    head = 0 if blocks else shape.vocabulary * shape.width
    return 2 * ((blocks or shape.depth) * shape.block + head)

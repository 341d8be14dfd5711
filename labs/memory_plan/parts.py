"""The parts of a prediction, each with the arithmetic behind it in one line."""

from __future__ import annotations

import dataclasses
from typing import Final

from labs.quickstart import activations, fit, held, memory, optimizers
from labs.quickstart.memory import MOMENTS, Moment
from labs.quickstart.plan import Plan
from labs.quickstart.shape import Shape

CONSTANTS: Final = "quantisation constants"


@dataclasses.dataclass(frozen=True)
class Part:
    """One row: sizes in bytes.

    Attributes:
        name: What it is.
        whole: Its size when all of it is there.
        moments: Its size at each moment.
        formula: How ``whole`` comes about.
    """

    name: str
    whole: int
    moments: dict[Moment, int]
    formula: str


def parts(shape: Shape, plan: Plan) -> list[Part]:
    """Return all parts, what stays from step to step first. Each moment's sizes add up to its sum.

    What is there for a part of a step only (gradients, activations, logits) is whole at one moment
    at most. `working` is at its largest.
    """
    prediction, formulas = memory.predict(shape, plan), _formulas(shape, plan)
    whole = memory.whole(shape, plan)
    found = []
    for name in dict.fromkeys(
        ("weights", "NF4 weights", CONSTANTS, "adapters", *whole, "working"),
    ):
        at = {it: _at(shape, name, prediction.moments[it]) for it in MOMENTS}
        size = _at(shape, name, whole) if name != "working" else max(at.values())
        if name in formulas and (size or name in ("optimizer", "gradients")):
            found.append(Part(name, size, at, formulas[name]))
    return found


def before_activations(shape: Shape, plan: Plan) -> int:
    """Return the bytes of weights, gradients and optimizer state: what the lesson adds up."""
    whole = memory.whole(shape, plan)
    return sum(it for name, it in whole.items() if name not in ("activations", "logits"))


def _at(shape: Shape, name: str, sizes: held.Parts) -> int:
    """Return the size of a part; NF4 weights are two here: the 4 bits, and the constants."""
    if name in ("NF4 weights", CONSTANTS):
        numbers, constants = held.nf4_bytes(shape)
        there = "NF4 weights" in sizes
        return (numbers if name == "NF4 weights" else constants) if there else 0
    return sizes.get(name, 0)


def _formulas(shape: Shape, plan: Plan) -> dict[str, str]:
    linear, rest = shape.depth * shape.block, shape.embedding + shape.small
    trained, each = fit.count(held.trained_parameters(shape, plan)), plan.trained
    block, outside = activations.token_bytes(shape, plan)
    told = {
        "optimizer": _optimizer(trained, plan),
        "gradients": f"{trained} trained x {each} bytes, whole at the update",
        "activations": f"{plan.tokens:,} tokens x ({shape.depth} blocks x {block:,} bytes"
        f"{' of inputs' if plan.checkpointing else ''} + {outside:,})",
        "logits": f"{plan.tokens:,} tokens x {shape.vocabulary:,} words x 12 bytes (three float32)",
        "working": _working(plan),
    }
    if plan.method == "full":
        master = ", the master copy" if plan.precision == "mixed" else ""
        if shape.tied:
            told["gradients"] += " (backward has those of the one head and embedding thrice)"
        return told | {"weights": f"{fit.count(linear + rest)} x {each} bytes{master}"}
    sides = sum(it.inputs + it.outputs for it in held.targeted(shape, plan))
    told["adapters"] = f"{shape.depth} blocks x rank {plan.rank} x {sides:,} x {each} bytes"
    if plan.method == "lora":
        return told | {"weights": f"{fit.count(linear + rest)} x {plan.product} bytes, frozen"}
    kinds = "embedding and norms" if shape.tied else "embedding, head, norms"
    return told | {
        "weights": f"{fit.count(rest)} ({kinds}) x {plan.product} bytes, frozen",
        "NF4 weights": f"{fit.count(linear)} x 4 bits, frozen",
        CONSTANTS: f"{fit.count(linear)} / 64 x (8 + 32 / 256) bits, and tables",
    }


def _optimizer(trained: str, plan: Plan) -> str:
    if plan.optimizer == "sgd":
        return "SGD without momentum keeps nothing"
    if plan.optimizer == "adamw":
        return f"{trained} trained x 2 moments x {plan.trained} bytes (AdamW)"
    return (
        f"{trained} trained x 2 moments x (1 + 4 / {optimizers.BLOCK}) bytes "
        f"(tensors below {optimizers.SMALLEST_IN_8_BITS:,}: 4)"
    )


def _working(plan: Plan) -> str:
    told = ["gradients on their way"]
    if plan.precision == "mixed":
        told.insert(0, "autocast's 16-bit copies of what is trained")
    if plan.method == "qlora":
        told.append("a layer dequantised")
    return ", ".join(told)

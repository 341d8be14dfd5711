"""Whether a run fits into memory: the arithmetic as a table, and what would make it fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

from rich.table import Table

from labs.quickstart import held, memory
from labs.quickstart.memory import Moment, Prediction
from labs.quickstart.plan import Method, Plan
from labs.quickstart.shape import Shape
from verify.lab.problems import Problem
from verify.room import Free

MARGIN: Final = 1.1
"""What is free must be so many times the prediction: for its error, and what it does not count."""

MOMENTS: Final[dict[Moment, str]] = {
    "loss": "at the loss",
    "backward": "in backward",
    "update": "at the update",
}
_UNITS: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))
_SHORTEST: Final = 128  # tokens; a row of less says little
_LESS: Final[dict[Method, tuple[Method, ...]]] = {
    "full": ("lora", "qlora"),
    "lora": ("qlora",),
    "qlora": (),
}
"""Methods that take less than another, the one that changes least first."""


def size(number: float) -> str:
    """Return bytes as people read them, in powers of 1000."""
    unit, one = next(it for it in _UNITS if number >= it[1] or it is _UNITS[-1])
    return f"{number / one:,.1f} {unit}"


def fits(prediction: Prediction, free: Free) -> bool:
    """Return whether ``prediction`` and the margin fit into what is free."""
    return prediction.peak * MARGIN <= free.bytes


def choose(shape: Shape, plan: Plan, free: Free, checkpointing: str) -> Plan:
    """Return ``plan`` with checkpointing as asked for; ``auto``: where it does not fit without.

    It costs one more forward pass, so it is not used for nothing.
    """
    off, on = (dataclasses.replace(plan, checkpointing=it) for it in (False, True))
    if checkpointing == "auto":
        return off if fits(memory.predict(shape, off), free) else on
    return on if checkpointing == "on" else off


def require(shape: Shape, plan: Plan, free: Free) -> None:
    """Raise a `Problem` with what would help if ``plan`` does not fit into what is free."""
    prediction = memory.predict(shape, plan)
    if fits(prediction, free):
        return
    needed, parts = prediction.peak * MARGIN, prediction.moments[prediction.peak_at]
    most = max(parts, key=lambda part: parts[part])
    how = _how(shape, plan)[most]
    other = next(smaller(shape, plan, free), None)
    told = "the same with a smaller model: no other setting makes it fit"
    if other is not None:
        takes = size(memory.predict(shape, other).peak * MARGIN)
        told = f"the same with {_difference(plan, other)}  # takes {takes}"
    raise Problem(
        f"This run needs {size(needed)}, and {size(free.bytes)} are free by {free.source}: "
        "it would end in the middle, so it does not begin.",
        cause=f"{most}, {how}, take {size(parts[most])}; or {free.cause}: {free.type_this}",
        type_this=told,
    )


def table(shape: Shape, plan: Plan) -> Table:
    """Return the prediction as a table: a row for each part, a column for each moment."""
    prediction = memory.predict(shape, plan)
    made = Table(box=None, padding=(0, 1, 0, 0), show_edge=False)
    made.add_column("memory")
    made.add_column(f"for {plan.batch} x {plan.length} tokens", no_wrap=True)
    for title in MOMENTS.values():
        made.add_column(title, justify="right", no_wrap=True)
    how = _how(shape, plan)
    for part in dict.fromkeys(part for parts in prediction.moments.values() for part in parts):
        cells = [prediction.moments[moment].get(part, 0) for moment in MOMENTS]
        if any(cells):
            made.add_row(part, how[part], *(size(it) if it else "-" for it in cells))
    made.add_row("sum", "", *(size(prediction.total(moment)) for moment in MOMENTS), style="bold")
    return made


def _how(shape: Shape, plan: Plan) -> dict[str, str]:
    """Return the arithmetic of each part."""
    adapters = held.adapter_parameters(shape, plan)
    linear, rest = shape.depth * shape.block, shape.embedding + shape.small
    others = rest if plan.method == "qlora" else linear + rest
    blocks = f"{shape.depth} blocks"
    return {
        "NF4 weights": f"{count(linear)} x {held.NF4_BITS:.3f} bits",
        "weights": f"{count(others)} x {8 * plan.product} bits",
        "adapters": f"{count(adapters)} x {8 * plan.trained} bits",
        "optimizer": f"AdamW, 2 x {8 * plan.trained} bits each",
        "gradients": f"{8 * plan.trained} bits each",
        "activations": f"inputs of {blocks}" if plan.checkpointing else f"{blocks} keep theirs",
        "logits": f"{plan.tokens:,} x {shape.vocabulary:,} x 12 bytes",
        "working": "copies, passing gradients",
    }


def smaller(shape: Shape, plan: Plan, free: Free) -> Iterator[Plan]:
    """Yield plans that fit, what changes least first."""
    for other in _variations(plan):
        if fits(memory.predict(shape, other), free):
            yield other


def _variations(plan: Plan) -> Iterator[Plan]:
    """Yield ``plan`` made smaller step by step: what changes the result least comes first.

    Checkpointing changes nothing but time; a smaller batch with more of them to an update, next to
    nothing; NF4, a little, adapters instead of all weights, more; shorter rows leave data out.
    """
    plan = dataclasses.replace(plan, checkpointing=True)
    yield from _batches(plan)
    for method in _LESS[plan.method]:
        plan = dataclasses.replace(plan, method=method, precision="mixed")
        yield from _batches(plan)
    *_, plan = _batches(plan)
    while plan.length // 2 >= _SHORTEST:
        plan = dataclasses.replace(plan, length=plan.length // 2)
        yield plan


def _batches(plan: Plan) -> Iterator[Plan]:
    """Yield ``plan``, and the same with as many rows to an update in smaller batches."""
    update = plan.batch * plan.accumulate
    while True:
        yield plan
        if plan.batch == 1:
            return
        batch = plan.batch // 2
        plan = dataclasses.replace(plan, batch=batch, accumulate=-(-update // batch))


def _difference(plan: Plan, other: Plan) -> str:
    flags = []
    if other.checkpointing and not plan.checkpointing:
        flags.append("--checkpointing on")
    for name in ("method", "batch", "accumulate", "length"):
        if getattr(plan, name) != getattr(other, name):
            flags.append(f"--{name} {getattr(other, name)}")
    return " ".join(flags)


def count(number: int) -> str:
    """Return a number of parameters as people read it."""
    for unit, one in (("billion", 1e9), ("million", 1e6)):
        if number >= one:
            return f"{number / one:,.2f} {unit}"
    return f"{number:,}"

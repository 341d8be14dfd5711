"""A plan from its first line to its last. Read `run` as a table of contents."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from labs.memory_plan import measuring, models, parts, picture, record, room
from labs.memory_plan.measuring import Measured
from labs.memory_plan.models import Model
from labs.memory_plan.options import Options
from labs.memory_plan.room import Room
from labs.quickstart import fit, held, memory, runs
from labs.quickstart import model as devices
from labs.quickstart.memory import MOMENTS, Prediction
from labs.quickstart.options import COUNTS
from labs.quickstart.plan import Plan, Precision
from verify.lab.problems import Misuse
from verify.lab.steps import Steps

FITS, DOES_NOT_FIT = 0, 1
_NUMBERS: Final[dict[Precision, str]] = {
    "mixed": "mixed precision",
    "bfloat16": "all in bfloat16",
    "float32": "all in float32",
}
_WIDE: Final = 110  # columns where there is no terminal to ask


def run(options: Options, steps: Steps) -> int:
    """Say what training as ``options`` ask for takes, and return the exit code.

    Raises:
        Misuse: the model or a flag is not fit for it.
        Problem: the machine is not.
    """
    if not steps.console.is_terminal:
        steps.console.width = _WIDE
    model = models.find(options.model)
    plan, where = plan_of(options, model), devices.device()
    prediction, space = memory.predict(model.shape, plan), room.look(where)
    _tell(model, plan, steps)
    _draw(model, plan, prediction, space, steps)
    fits = fit.fits(prediction, space.usable)
    _judge(options, model, plan, space, steps)
    measured = None
    if options.measure and fits:
        with steps.waiting("Measuring the second of two real steps"):
            measured = measuring.measure(model, plan, where)
        _compare(prediction, measured, steps)
    elif options.measure:
        steps.say("Not measured: a step that does not fit ends in the middle.")
    if options.json is not None:
        found = record.record(model, plan, prediction, space, measured)
        record.write(options.json, found)
    return FITS if fits else DOES_NOT_FIT


def plan_of(options: Options, model: Model) -> Plan:
    """Return the plan that ``options`` ask for.

    Raises:
        Misuse: a row is longer than the model takes.
    """
    longest = model.longest or COUNTS["length"][0]
    length = options.length or min(COUNTS["length"][0], longest)
    if model.longest and length > model.longest:
        raise Misuse(
            f"--length {length} is more than the {model.longest} tokens that {model.name} takes.",
            cause="its config says max_position_embeddings",
            type_this=f"the same with --length {model.longest}",
        )
    precision: Precision = options.dtype
    if options.mixed or (options.method != "full" and options.dtype == "bfloat16"):
        precision = "mixed"
    return Plan(
        method=options.method,
        batch=options.batch,
        length=length,
        precision=precision,
        checkpointing=options.checkpointing,
        accumulate=options.accumulate,
        rank=options.rank,
        targets=options.targets,
        optimizer=options.optimizer,
    )


def command(model: str | None, plan: Plan) -> str:
    """Return the command that asks for ``plan``."""
    words = ["invoke memory.plan", *([f"--model {model}"] if model else [])]
    words += [f"--method {plan.method}", f"--batch {plan.batch}", f"--length {plan.length}"]
    for name, usual in (("accumulate", 1), ("rank", COUNTS["rank"][0]), ("optimizer", "adamw"),
                        ("targets", "all-linear")):  # fmt: skip
        if getattr(plan, name) != usual:
            words.append(f"--{name} {getattr(plan, name)}")
    if plan.precision == "float32":
        words.append("--dtype float32")
    if plan.method == "full" and plan.precision == "mixed":
        words.append("--mixed")
    return " ".join([*words, *(["--checkpointing"] if plan.checkpointing else [])])


def _tell(model: Model, plan: Plan, steps: Steps) -> None:
    shape, accumulated = model.shape, ""
    if plan.accumulate > 1:
        accumulated = f", {plan.accumulate} such passes to an update"
    steps.say(f"Model   {runs.shown(Path(model.name))}: {model.config.model_type}, "
              f"{fit.count(shape.parameters)} parameters in {shape.depth} blocks "
              f"of width {shape.width:,}")  # fmt: skip
    trained = fit.count(held.trained_parameters(shape, plan))
    how = "with" if plan.checkpointing else "without"
    steps.say(f"Plan    {plan.method}, {trained} trained, {_NUMBERS[plan.precision]}, "
              f"{plan.optimizer}, {how} checkpointing")  # fmt: skip
    steps.say(f"Batch   {plan.batch} rows x {plan.length:,} tokens = {plan.tokens:,}{accumulated}")
    steps.say("")


def _draw(model: Model, plan: Plan, prediction: Prediction, space: Room, steps: Steps) -> None:
    rows = parts.parts(model.shape, plan)
    steps.console.print(picture.table(rows, prediction.peak_at))
    steps.say("")
    for line in picture.bars(rows, space.usable.bytes):
        steps.console.print(line, soft_wrap=True)
    steps.say("")
    steps.say(
        f"Before activations: {fit.size(parts.before_activations(model.shape, plan))} of weights, "
        "gradients and optimizer state. Gradients come while activations go, so the peak is no sum "
        "of all rows."
    )
    for caution in _cautions(model, plan):
        steps.say(caution)


def _cautions(model: Model, plan: Plan) -> list[str]:
    """Return what the sum leaves out, or what is unwise, as sentences."""
    told, shape = [], model.shape
    if plan.method == "full" and plan.precision == "bfloat16":
        told.append("Everything in bfloat16 loses small updates; --mixed keeps float32 weights.")
    if shape.window and plan.length >= shape.window:
        told.append(f"Not counted: rows of {shape.window:,} tokens and more need a mask here (the "
                    "model's attention looks back so far only), and keys in full.")  # fmt: skip
    if plan.precision == "float32" and shape.kv_heads < shape.heads and torch.cuda.is_available():
        told.append("Not counted: a GPU has no fused attention for float32 with grouped queries, "
                    "so it may keep a matrix of length x length for each head.")  # fmt: skip
    return told


def _judge(options: Options, model: Model, plan: Plan, space: Room, steps: Steps) -> None:
    """Say whether it fits, and if it does not, what would."""
    needed = memory.predict(model.shape, plan).peak * fit.MARGIN
    free = (
        f"{fit.size(space.free.bytes)} are free by {space.free.source}, of which "
        f"{fit.size(space.floor)} stay free"
    )
    name = "the GPU" if devices.device().type == "cuda" else "the CPU"
    if fit.fits(memory.predict(model.shape, plan), space.usable):
        steps.ticked(f"It fits {name} here: {fit.size(needed)} with a tenth to spare; {free}.")
        return
    steps.say(f"It does not fit {name} here: {fit.size(needed)} with a tenth to spare; {free}.")
    other = next(fit.smaller(model.shape, plan, space.usable), None)
    if other is None:
        steps.say("Likely cause: the model is too large for this machine, whatever the settings")
        steps.say("Type: invoke memory.plan --model qwen2-0.5b  # or another smaller model")
        return
    takes = fit.size(memory.predict(model.shape, other).peak * fit.MARGIN)
    steps.say(f"Likely cause: the model or the batch is large; or {space.free.cause}: "
              f"{space.free.type_this}")  # fmt: skip
    steps.say(f"Type: {command(options.model, other)}  # takes {takes}")


def _compare(prediction: Prediction, measured: Measured, steps: Steps) -> None:
    steps.say("")
    steps.say(f"{'measured':14}{'predicted':>12}{'measured':>12}{'error':>10}")
    rows = [(fit.MOMENTS[it], prediction.total(it), measured.moments[it]) for it in MOMENTS]
    for title, predicted, took in [*rows, ("peak", prediction.peak, measured.peak)]:
        error = f"{100 * (predicted / took - 1):+.1f} %"
        steps.say(f"{title:14}{fit.size(predicted):>12}{fit.size(took):>12}{error:>10}")
    steps.say(f"by {measured.source}")

"""What is to be done, known before a weight is loaded: model, rows, batch, memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

import torch

from labs.quickstart import fit, rows, runs, shape, sources
from labs.quickstart import model as models
from labs.quickstart.options import SMALL, Options
from labs.quickstart.plan import Plan
from labs.quickstart.rows import Example
from labs.quickstart.runs import Settings
from labs.quickstart.shape import Shape
from verify.lab.problems import Misuse
from verify.lab.steps import Steps
from verify.room import Free, gpu_memory, main_memory

_LARGE: Final = 300_000_000  # parameters
_EVALUATED: Final = 128  # held-out rows at most: an evaluation is to be quick


@dataclasses.dataclass(frozen=True)
class Task:
    """A model, rows, and how the one is trained on the others.

    Attributes:
        model: A folder, or a name on the hub.
        data: The data set's folder or file.
        tokenizer: Fit for use.
        shape: The model's.
        train: Rows to train on, none longer than asked for.
        held_out: Rows that the loss is told for.
        plan: Method, precision and checkpointing; rows and tokens of the largest batch.
        free: What memory there is.
        options: What was typed.
        where: The device.
    """

    model: str
    data: Path
    tokenizer: Any
    shape: Shape
    train: list[Example]
    held_out: list[Example]
    plan: Plan
    free: Free
    options: Options
    where: torch.device

    @property
    def update(self) -> int:
        """Rows of one update."""
        return self.plan.batch * self.plan.accumulate

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.options.rate_for(self.shape.parameters)

    @property
    def settings(self) -> Settings:
        """What decides the result, the number of steps apart."""
        plan = self.plan
        return {
            "model": self.model,
            "model_state": sources.fingerprint(self.model),
            "data": str(self.data),
            "data_state": sources.fingerprint(str(self.data)),
            "method": plan.method,
            "batch": plan.batch,
            "accumulate": plan.accumulate,
            "length": self.options.length,
            "learning_rate": self.rate,
            "rank": plan.rank,
            "seed": self.options.seed,
        }


def prepare(options: Options, steps: Steps) -> Task:
    """Return what ``options`` ask for, and tell it.

    Raises:
        Misuse: the model, the data or a flag is not fit for it.
        Problem: the model or the data cannot be had.
    """
    place, data = sources.find_model(options.model), sources.find_data(options.data)
    config = sources.read_config(place)
    try:
        found = shape.read(config)
    except (ValueError, AttributeError) as error:
        raise Misuse(
            f"{place} is no language model of a kind that is known here ({config.model_type}).",
            cause=f"this command is for models like {', '.join(shape.KNOWN)}",
            type_this="invoke quickstart  # with another model",
        ) from error
    tokenizer, settled = sources.read_tokenizer(place)
    train, held_out, left_out = _examples(data, tokenizer, _length(options, config))
    _require_enough(train, held_out, options)
    where = models.device()
    if where.type == "cpu" and found.parameters < SMALL:
        torch.set_num_threads(1)  # its products are too short for threads to pay
    plan = Plan(
        method=options.method,
        batch=options.batch,
        length=rows.padded([*train, *held_out]),
        precision=models.precision(options.method, where),
        accumulate=options.accumulate,
        rank=options.rank,
    )
    free = gpu_memory() if where.type == "cuda" else main_memory()
    plan = fit.choose(found, plan, free, options.checkpointing)
    task = Task(place, data, tokenizer, found, train, held_out, plan, free, options, where)
    _tell(task, steps, config, [*settled, *left_out])
    return task


def _length(options: Options, config: Any) -> int:
    return min(options.length, getattr(config, "max_position_embeddings", None) or options.length)


def _examples(
    data: Path, tokenizer: Any, length: int
) -> tuple[list[Example], list[Example], list[str]]:
    """Return the rows to train on, those held out, and what was left out, as a sentence."""
    parts = rows.read(data)
    train, held_out = (rows.examples(part, tokenizer, length) for part in parts)
    long = sum(map(len, parts)) - len(train) - len(held_out)
    told = [f"{long} rows of more than {length} tokens are left out: cut, they had no end."]
    return train, held_out[:_EVALUATED], told if long else []


def _require_enough(train: list[Example], held_out: list[Example], options: Options) -> None:
    update = options.batch * options.accumulate
    if len(train) < update:
        raise Misuse(
            f"There are {len(train)} rows to train on within the length, and one update takes "
            f"{update}.",
            cause="the data set is small, or its rows are long",
            type_this=f"the same with --batch {max(1, len(train))}, or a greater --length",
        )
    if len(held_out) < rows.FEWEST:
        raise Misuse(
            f"There are {len(held_out)} held-out rows within the length, too few to tell a loss "
            f"for: {rows.FEWEST} are needed.",
            cause="test.jsonl is short, or train.jsonl has few rows to hold some out",
            type_this="the same with more rows in test.jsonl, or a greater --length",
        )


def _tell(task: Task, steps: Steps, config: Any, settled: list[str]) -> None:
    plan, where = task.plan, "the CPU"
    if task.where.type == "cuda":
        where = torch.cuda.get_device_name(task.where)
    how = {"qlora": "NF4, products in bfloat16", "lora": "as they are"}[plan.method]
    count = f"{fit.count(task.shape.parameters)} parameters"
    batch = f"{plan.batch} rows" + (f" x {plan.accumulate}" if plan.accumulate > 1 else "")
    told = {
        "Model": f"{runs.shown(Path(task.model))}: {config.model_type}, {count}, on {where}",
        "Data": f"{runs.shown(task.data)}: {len(task.train)} rows to train on, "
        f"{len(task.held_out)} held out",
        "Method": f"{plan.method}: frozen weights {how}; rank {plan.rank} on all linear layers "
        "but the head",
        "Steps": f"{task.options.steps} of {batch}, learning rate {task.rate:g}, "
        f"seed {task.options.seed}",
    }
    for title, text in told.items():
        steps.say(f"{title:8}{text}")
    for sentence in settled:
        steps.say(f"{'':8}{sentence}")
    if task.where.type == "cpu" and task.shape.parameters > _LARGE:
        steps.say(f"{'':8}On a CPU each of its steps takes minutes: it is a model for a GPU.")
    if config.model_type not in shape.KNOWN:
        known = ", ".join(shape.KNOWN)
        steps.say(f"{'':8}The memory below is counted for {known}; for this one it may be off.")

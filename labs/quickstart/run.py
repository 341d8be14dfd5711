"""A run from its first line to its last. Read `run` as a table of contents."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

from labs.quickstart import (
    answers,
    fit,
    memory,
    plot,
    progress,
    report,
    rows,
    runs,
    sources,
    training,
)
from labs.quickstart import model as models
from labs.quickstart.options import Options
from labs.quickstart.rows import Example
from labs.quickstart.runs import Run
from labs.quickstart.task import Task, prepare
from labs.quickstart.training import Job, Watched
from verify.lab.layout import here
from verify.lab.problems import INTERRUPTED, Problem
from verify.lab.steps import Steps

_CLOSE: Final = {"cpu": 0.0, "cuda": 0.05}
"""How far the reloaded model's logits may be off; on a GPU kernels may add in another order."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What is left of a training once the model is gone.

    Attributes:
        seen: Losses, speed, memory.
        asked: Held-out prompts.
        before, after: The answers to them.
        tensors: The adapters' tensors.
        logits: Those of the first of ``asked``, float32.
    """

    seen: Watched
    asked: list[Example]
    before: list[str]
    after: list[str]
    tensors: dict[str, Tensor]
    logits: Tensor


def run(options: Options, steps: Steps) -> int:
    """Fine-tune as ``options`` say and return the exit code.

    Raises:
        Misuse: the model, the data or a flag is not fit for it.
        Problem: the machine is not.
    """
    began = time.monotonic()
    task = prepare(options, steps)
    home = here().workspace / "quickstart"
    the_run = runs.find(home, options.output, task.settings, fresh=options.fresh)
    if (done := the_run.report) and not the_run.is_new and done["steps"] >= options.steps:
        return _finished(done, the_run, steps)
    steps.say("")
    steps.console.print(fit.table(task.shape, task.plan))
    fit.require(task.shape, task.plan, task.free)
    told = "with checkpointing" if task.plan.checkpointing else "without checkpointing"
    steps.say(f"free: {fit.size(task.free.bytes)} by {task.free.source}; it fits {told}")
    steps.say("")
    if the_run.is_new:
        the_run.begin(task.settings)
        runs.put_page(home)
    with the_run.alone(), _out_of_memory():
        trained = _train(task, the_run, steps)
        if isinstance(trained, Watched):
            steps.say(f"Stopped after step {trained.step} of {options.steps}; that much is kept.")
            without = " without --fresh" if options.fresh else ""
            steps.say(f"The same command{without} goes on from there.")
            return INTERRUPTED
        difference = _prove(task, the_run, trained, steps)
        record = _record(task, the_run, trained, difference)
        record["seconds"] = round(time.monotonic() - began, 1)
        title = f"{options.method}, rank {options.rank}, on {task.data.stem}"
        plot.draw(trained.seen.train, trained.seen.held_out, title, the_run.folder / "loss.png")
        the_run.write("report.json", record)
    _show(record, the_run, steps)
    return report.code(record)


def _train(task: Task, the_run: Run, steps: Steps) -> Trained | Watched:
    """Train; return what came of it, or only what was seen if it was stopped."""
    how, options, held_out = task.plan.precision, task.options, task.held_out
    sources.fetch_weights(task.model)
    with steps.step("Loading the model") as step, sources.explained(task.model):
        model = models.load(task.model, options.method, task.where)
        adapted = models.add_adapters(model, options.rank, options.seed)
        step.done = f"Model loaded; {models.trained(adapted):,} parameters of adapters to train"
    asked = answers.chosen(held_out)
    before = the_run.read("before.json")
    if before is None:
        with steps.step("Answers before training"):
            before = answers.answer(adapted, task.tokenizer, asked, how)
            the_run.write("before.json", before)
    began = runs.steps_of(the_run.checkpoint)
    doing = f"going on from step {began}" if began else "training"
    steps.say(f"Run {runs.shown(the_run.folder)}: {doing}; Ctrl-C stops it and keeps what it has")
    job = Job(
        model=adapted,
        order=rows.in_order(task.train, options.steps * task.update, task.plan.batch, options.seed),
        held_out=held_out,
        plan=task.plan,
        rate=task.rate,
        steps=options.steps,
        seed=options.seed,
        pad=task.tokenizer.pad_token_id,
        run=the_run,
        where=task.where,
    )
    with steps.timed() as done:
        with progress.shown(steps, began, options.steps) as hear:
            seen = training.train(job, hear)
        if seen.stopped:
            return seen
        done(f"Trained for {options.steps - began} steps")
    with steps.step("Answers after training"):
        after = answers.answer(adapted, task.tokenizer, asked, how)
    adapted.save_pretrained(str(the_run.folder / "adapter"))
    task.tokenizer.save_pretrained(the_run.folder / "adapter")
    logits = _logits(task, adapted, asked[0])
    return Trained(seen, asked, before, after, models.adapter_tensors(adapted), logits)


def _prove(task: Task, the_run: Run, trained: Trained, steps: Steps) -> float:
    """Load base and adapter anew; return by how much the logits differ.

    Raises:
        Problem: the adapter that was saved is not the one that was trained.
    """
    models.give_back()  # of the model that was trained, to which nothing refers any more
    with steps.step("Loading the saved adapter on a fresh base model"):
        base = models.load(task.model, task.options.method, task.where)
        reloaded = models.load_adapter(base, the_run.folder / "adapter")
        tensors = models.adapter_tensors(reloaded)
        difference = (
            _logits(task, reloaded, trained.asked[0]).sub(trained.logits).abs().max().item()
        )
    equal = tensors.keys() == trained.tensors.keys() and all(
        torch.equal(tensors[name], trained.tensors[name]) for name in tensors
    )
    if not equal or difference > _CLOSE[task.where.type]:
        raise Problem(
            f"The adapter in {the_run.folder / 'adapter'} is not the one that was trained.",
            cause="the disk is full, or something else writes there",
            type_this="invoke quickstart  # again: it goes on from the last checkpoint",
        )
    return difference


def _record(task: Task, the_run: Run, trained: Trained, difference: float) -> dict[str, Any]:
    """Return the record that report.json holds; memory in bytes, losses in nats per token."""
    seen, plan = trained.seen, task.plan
    prediction = memory.predict(task.shape, plan)
    count, tokens = seen.measured
    there = memory.predict(task.shape, dataclasses.replace(plan, batch=count, length=tokens)).peak
    folder = the_run.folder / "adapter"
    return {
        "schema": report.SCHEMA,
        "settings": task.settings,
        "steps": seen.step,
        "device": str(task.where),
        "rows": {"train": len(task.train), "held_out": len(task.held_out)},
        "loss": {
            "before": seen.held_out[0][1],
            "after": seen.held_out[-1][1],
            "held_out": {str(step): round(loss, 4) for step, loss in seen.held_out},
            "train": {str(step): round(loss, 4) for step, loss in seen.train},
        },
        "memory": {
            "moments": prediction.moments,
            "peak": prediction.peak,
            "checkpointing": plan.checkpointing,
            "free": task.free.bytes,
            "free_by": task.free.source,
            "rows": count,
            "tokens": tokens,
            "predicted": there,
            "measured": seen.peak,
            "measured_by": seen.source,
            "ratio": round(there / seen.peak, 4) if seen.peak else None,
        },
        "tokens_per_second": round(seen.tokens / seen.seconds, 1) if seen.seconds else None,
        "answers": [
            {"prompt": row.asked, "wanted": row.answer, "before": old, "after": new}
            for row, old, new in zip(trained.asked, trained.before, trained.after, strict=True)
        ],
        "adapter": {
            "bytes": report.folder_size(folder),
            "tensors": len(trained.tensors),
            "difference": difference,
        },
    }


def _logits(task: Task, model: Any, row: Example) -> Tensor:
    """Return the model's logits for one row, on the CPU in float32: (1, tokens, vocabulary)."""
    model.train(mode=False)
    with models.computing(task.where, task.plan.precision):
        found: Tensor = model(input_ids=torch.tensor([row.ids], device=task.where)).logits
    return found.float().cpu()


def _finished(record: dict[str, Any], the_run: Run, steps: Steps) -> int:
    steps.say("")
    steps.say(f"This run is finished: {record['steps']} steps, in {runs.shown(the_run.folder)}.")
    _show(record, the_run, steps)
    steps.say(f"To go on with it: the same with --steps {2 * record['steps']}. Anew: --fresh.")
    return report.code(record)


def _show(record: dict[str, Any], the_run: Run, steps: Steps) -> None:
    steps.console.print(answers.side_by_side(record["answers"]))
    report.show(record, steps, runs.shown(the_run.folder))


@contextlib.contextmanager
def _out_of_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Problem(
            f"The GPU's memory ran out: {str(error).splitlines()[0]}",
            cause="other processes took some of it meanwhile, or the prediction is too low here",
            type_this="the same with half the --batch; a checkpoint is kept",
        ) from error

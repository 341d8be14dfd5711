"""The training itself: Transformers' Trainer, watched, stopped where asked, gone on with."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from labs.quickstart import measure, rows
from labs.quickstart.plan import Plan
from labs.quickstart.rows import Example
from labs.quickstart.runs import Run, steps_of

_WARM: Final = 5  # steps until the learning rate is whole
_EVALUATIONS: Final = 10


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained, on what, and how.

    Attributes:
        model: With its adapters.
        order: The rows of all steps, in their order.
        held_out: The rows the loss is told for.
        plan: Batch, precision, checkpointing.
        rate: The learning rate, constant after a few steps: a run that goes on for longer than was
            planned is then the same as one that was planned so.
        steps: At which step to end.
        seed: For what the libraries draw.
        pad: The id of the padding token.
        run: Where checkpoints are.
        where: The device.
    """

    model: Any
    order: Sequence[Example]
    held_out: Sequence[Example]
    plan: Plan
    rate: float
    steps: int
    seed: int
    pad: int
    run: Run
    where: torch.device


@dataclasses.dataclass
class Watched:
    """What was seen of a training.

    Attributes:
        train: Step and loss of each batch, those before a stop too.
        held_out: Step and loss of the held-out rows, step 0 among them.
        step: At which step it is.
        stopped: Whether somebody asked it to stop before its end.
        tokens: Tokens of this session's steps, padding not counted, but for those not timed.
        seconds: What these steps took.
        peak: The most bytes at once in one measured step, where one was.
        measured: Rows and tokens of that step's largest batch.
        source: What measured them.
    """

    train: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    held_out: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    step: int = 0
    stopped: bool = False
    tokens: int = 0
    seconds: float = 0.0
    peak: int | None = None
    measured: tuple[int, int] = (0, 0)
    source: str = ""


Hear = Callable[[int, str, float, Watched], None]
"""Called with step, ``loss`` or ``eval_loss``, its value, and what was seen so far."""


def train(job: Job, hear: Hear) -> Watched:
    """Go on from the last checkpoint until ``job.steps`` or Ctrl-C; both leave another."""
    checkpoint = job.run.checkpoint
    watch = _Watch(job, hear, began=steps_of(checkpoint))
    trainer = Trainer(
        model=job.model,
        args=_arguments(job, begins=checkpoint is None),
        train_dataset=list(job.order),
        eval_dataset=list(job.held_out),
        data_collator=functools.partial(rows.collate, pad=job.pad),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    # Autocast sees to it that both factors of a product have one type. PEFT would cast the input
    # for each adapter, and autograd keep each of these copies.
    with _stoppable(watch), disable_input_dtype_casting(job.model, job.plan.precision == "mixed"):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seen, state = watch.seen, trainer.state
    seen.train = [(int(it["step"]), it["loss"]) for it in state.log_history if "loss" in it]
    seen.held_out = [
        (int(it["step"]), it["eval_loss"]) for it in state.log_history if "eval_loss" in it
    ]
    seen.step = state.global_step
    seen.stopped = seen.step < job.steps
    return seen


def _arguments(job: Job, *, begins: bool) -> TrainingArguments:
    every = max(1, job.steps // _EVALUATIONS)
    cuda = job.where.type == "cuda"
    return TrainingArguments(
        output_dir=str(job.run.checkpoints),
        max_steps=job.steps,
        per_device_train_batch_size=job.plan.batch,
        per_device_eval_batch_size=job.plan.batch,
        gradient_accumulation_steps=job.plan.accumulate,
        train_sampling_strategy="sequential",
        learning_rate=job.rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=_WARM,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        bf16=job.plan.precision == "mixed",
        use_cpu=not cuda,
        activation_checkpointing=job.plan.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=begins,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is no number is to be seen
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        seed=job.seed,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


class _Watch(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Times and measures steps, tells losses, and ends the training when asked to."""

    def __init__(self, job: Job, hear: Hear, began: int) -> None:
        self.seen = Watched(step=began)
        self.asked_to_stop = False
        self._job, self._hear = job, hear
        # The second step of a session has the optimizer's state, and at first the longest rows.
        self._measured = began + 2
        self._meter: measure.Meter | None = None
        self._began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ARG002
        """Begin to measure the step that is measured, and to time every other."""
        if state.global_step + 1 == self._measured:
            self._meter = measure.meter(self._job.model, more["optimizer"], self._job.where)
            self._meter.begin()
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Count the step; stop and save if that was asked for."""
        taken, seen, step = self._rows_of(state.global_step), self.seen, state.global_step
        if self._meter is not None:
            seen.peak, seen.source = self._meter.end(), self._meter.source
            size = self._job.plan.batch
            batches = [taken[it : it + size] for it in range(0, len(taken), size)]
            largest = max(batches, key=rows.padded)
            seen.measured, self._meter = (len(largest), rows.padded(largest)), None
        elif step > self._measured:
            if self._job.where.type == "cuda":
                torch.cuda.synchronize()
            seen.seconds += time.perf_counter() - self._began
            seen.tokens += sum(len(row.ids) for row in taken)
        seen.step = step
        if self.asked_to_stop:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ARG002
        """Tell the losses."""
        for name in ("loss", "eval_loss"):
            if name in more["logs"]:
                self._hear(state.global_step, name, more["logs"][name], self.seen)

    def _rows_of(self, step: int) -> Sequence[Example]:
        size = self._job.plan.batch * self._job.plan.accumulate
        return self._job.order[(step - 1) * size : step * size]


@contextlib.contextmanager
def _stoppable(watch: _Watch) -> Iterator[None]:
    """Have the first Ctrl-C (or TERM) end the training after a step, the second end it at once."""

    def asked(_signal: int, _frame: FrameType | None) -> None:
        if watch.asked_to_stop:
            raise KeyboardInterrupt
        watch.asked_to_stop = True

    before = {it: signal.signal(it, asked) for it in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

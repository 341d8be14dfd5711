"""How far the training is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from labs.quickstart.training import Hear, Watched
from verify.lab.steps import Steps


@contextlib.contextmanager
def shown(steps: Steps, began: int, total: int) -> Iterator[Hear]:
    """Yield what hears a training's losses and shows them; this session begins at ``began``."""
    if not steps.console.is_terminal:
        yield _Lines(steps, total)
        return
    columns = (
        TextColumn("  step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=steps.console, transient=True) as progress:
        task = progress.add_task("", total=total, completed=began, told="")
        losses: dict[str, float] = {}

        def hear(step: int, name: str, value: float, seen: Watched) -> None:
            losses[name] = value
            progress.update(task, completed=step, told=_told(losses, seen))

        yield hear


class _Lines:
    """Says where it is whenever the held-out rows' loss is known."""

    def __init__(self, steps: Steps, total: int) -> None:
        self._steps, self._total = steps, total
        self._losses: dict[str, float] = {}

    def __call__(self, step: int, name: str, value: float, seen: Watched) -> None:
        self._losses[name] = value
        if name == "eval_loss":
            self._steps.say(f"  step {step} of {self._total}: {_told(self._losses, seen)}")


def _told(losses: dict[str, float], seen: Watched) -> str:
    names = {"loss": "loss", "eval_loss": "held-out"}
    told = [f"{names[name]} {value:.3f}" for name, value in losses.items()]
    if seen.seconds:
        told.append(f"{seen.tokens / seen.seconds:,.0f} tokens/s")
    return ", ".join(told)

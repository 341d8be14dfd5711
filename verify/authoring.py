"""What a lab is written with: the two decorators of ``checks.py`` and ``misconceptions.py``.

A check is a function: its name is its id, the first line of its docstring the sentence a learner
reads, and its argument the `verify.trial.Trial` that draws inputs, asks and compares. It returns
None, or a sentence on what holds, when the exercise is right, and raises through the trial when it
is not. In a lab without an exercise nobody is asked: the check looks at the machine and raises a
`verify.machine.Fault`.

A misconception is a wrong implementation of one of the lab's functions: its name is its id and its
docstring the hint.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from verify.trial import Trial

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that must hold, as `check` found it.

    Attributes:
        name: The id, unique in the lab.
        title: The learner's sentence.
        functions: The functions of ``exercise.py`` that it needs.
        evidence: ``"value"``: the judge computes the truth; ``"probe"``: a reading taken in the
            learner's process, where code could lie.
        level: ``"check"`` must hold, ``"advice"`` is shown and never fails a skill.
        after: Names of the checks that must have passed for this one to mean anything.
        review: The section of the lesson to read when it fails (its heading).
        gpu: It needs a GPU and says so where there is none.
        seconds: The time one question to the learner's process may take.
        run: The function itself.
    """

    name: str
    title: str
    functions: tuple[str, ...]
    evidence: Literal["value", "probe"]
    level: Literal["check", "advice"]
    after: tuple[str, ...]
    review: str
    gpu: bool
    seconds: float
    run: Callable[[Trial], str | None]


@dataclasses.dataclass(frozen=True)
class Misconception:
    """A known wrong ``function``; ``checks`` are the only ones its hint may answer (empty: any)."""

    name: str
    function: str
    hint: str
    checks: tuple[str, ...]
    run: Callable[..., Any]


def check(
    *functions: str,
    review: str,
    evidence: Literal["value", "probe"] = "value",
    level: Literal["check", "advice"] = "check",
    after: tuple[str, ...] = (),
    gpu: bool = False,
    seconds: float = 10.0,
) -> Callable[[Function], Function]:
    """Mark a function of ``checks.py`` as a check; see `Check` for the arguments."""

    def mark(run: Function) -> Function:
        title = first_line(run)
        run.check = Check(  # type: ignore[attr-defined]
            run.__name__, title, functions, evidence, level, after, review, gpu, seconds, run
        )
        return run

    return mark


def misconception(function: str, *, checks: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Mark a function of ``misconceptions.py`` as a wrong way of writing ``function``."""

    def mark(run: Function) -> Function:
        hint = " ".join((inspect.getdoc(run) or "").split())
        run.misconception = Misconception(run.__name__, function, hint, checks, run)  # type: ignore[attr-defined]
        return run

    return mark


def checks_of(module: ModuleType) -> list[Check]:
    """Return the checks of a lab's ``checks.py`` in the order they are written."""
    return [v.check for v in vars(module).values() if isinstance(getattr(v, "check", None), Check)]


def misconceptions_of(module: ModuleType) -> list[Misconception]:
    """Return the misconceptions of a lab's ``misconceptions.py`` in the order they are written."""
    found = (getattr(value, "misconception", None) for value in vars(module).values())
    return [item for item in found if isinstance(item, Misconception)]


def first_line(run: Callable[..., Any]) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((inspect.getdoc(run) or "").split("\n\n")[0].split())

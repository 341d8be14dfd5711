"""The model, the tokenizers and the data that the labs bring along, made with the environment."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Final

from verify.lab.following import following
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from verify.lab.layout import Layout
    from verify.lab.steps import Steps

_WORKING: Final = re.compile(r"\[ *(\d+)%\] (.*)")
_CAUSE, _TYPE = "Likely cause: ", "Type: "
_PLAIN_EVERY: Final = 25  # per cent between two plain lines


def make(layout: Layout, steps: Steps) -> None:
    """Make them unless they are there, and say so; a run that is stopped leaves nothing half.

    Raises:
        Problem: they cannot be made.
    """
    command = [str(layout.python), "-m", "labs.assets"]
    told: list[str] = []
    with (
        steps.timed() as done,
        _shown(steps) as show,
        # That folder comes first on the path: the labs are this project's.
        following(command, _environment(), folder=layout.root, umask=0o022) as process,
        layout.log("assets").open("a", encoding="utf-8") as log,
    ):
        log.write(f"\n# {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(command)}\n")
        for line in filter(None, process.lines()):
            log.write(line)
            told.append(line.strip())
            show(told[-1])
        code = process.wait()
    if code:
        raise _problem(told, code, layout.log("assets"))
    done(f"Model and data: {told[-1][0].lower()}{told[-1][1:]}")


def _environment() -> dict[str, str]:
    """Return the person's own environment, but for another Python's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@contextlib.contextmanager
def _shown(steps: Steps) -> Iterator[Callable[[str], None]]:
    """Yield what takes a line and shows how far the making is: on a terminal in one place."""
    if not steps.console.is_terminal:
        yield _Plain(steps)
        return
    with steps.console.status("Model and data ...") as status:
        yield lambda line: status.update(
            f"Model and data: {line.replace('[', '').replace(']', '')}"
        )


class _Plain:
    """Says that it begins, and then every so many per cent how far it is."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._next = 0

    def __call__(self, line: str) -> None:
        working = _WORKING.fullmatch(line)
        if working is None or int(working[1]) < self._next:
            return
        if self._next == 0:
            self._steps.say("Making the model and the data of the labs, about a minute:")
        else:
            self._steps.say(f"  {working[1]} %: {working[2]}")
        self._next += _PLAIN_EVERY


def _problem(told: list[str], code: int, log: Path) -> Problem:
    """Return what stopped it: its own words where it found them, else its last ones."""
    match told[-3:]:
        case [happened, cause, command] if cause.startswith(_CAUSE) and command.startswith(_TYPE):
            return Problem(
                happened,
                cause=cause.removeprefix(_CAUSE),
                type_this=command.removeprefix(_TYPE),
            )
    if code < 0:
        how, cause = f"ended by signal {-code}", "too little memory: it takes half a GB"
    else:
        how = told[-1].rstrip(".") if told else "no output"
        cause = f"the lines above it in {log}"
    return Problem(
        f"The model and the data of the labs could not be made: {how}.",
        cause=cause,
        type_this="invoke lab.up  # tries again; a run that was stopped leaves nothing half",
    )

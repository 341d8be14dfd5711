"""What stops a task: what happened, the likely cause, what to type."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

ENVIRONMENT_FAULT = 3
WRONG_USAGE = 2
INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


class Problem(Exception):
    """Something of the environment that the person at the keyboard can do something about.

    Attributes:
        happened: What happened, one sentence.
        cause: The likely cause, as it reads after "Likely cause:"; may be empty.
        type_this: The command that helps; may be empty.
        code: The exit code of a task that ends with it.
    """

    code = ENVIRONMENT_FAULT

    def __init__(self, happened: str, *, cause: str = "", type_this: str = "") -> None:
        super().__init__(happened)
        self.happened = happened
        self.cause = cause
        self.type_this = type_this

    def lines(self) -> list[str]:
        """Return it as it is shown, the command last."""
        told = [self.happened]
        if self.cause:
            told.append(f"Likely cause: {self.cause}")
        if self.type_this:
            told.append(f"Type: {self.type_this}")
        return told


class Misuse(Problem):
    """A task was called in a way it does not understand."""

    code = WRONG_USAGE


def attempt(action: Callable[[], int | None], errors: Console) -> int:
    """Run a task's ``action``; show a problem on ``errors``; return the exit code.

    What is neither a `Problem` nor a fault of disk or permissions is a mistake of ours and
    keeps its traceback.
    """
    try:
        return action() or 0
    except Problem as problem:
        show(problem, errors)
        return problem.code
    except KeyboardInterrupt:
        errors.print("\nInterrupted. The next run goes on from here.", highlight=False)
        return INTERRUPTED
    except OSError as error:
        problem_of_disk = from_os_error(error)
        if problem_of_disk is None:
            raise
        show(problem_of_disk, errors)
        return problem_of_disk.code


def show(problem: Problem, errors: Console) -> None:
    """Print ``problem``, its first line marked."""
    first, *others = problem.lines()
    errors.print(first, style="bold red", markup=False, highlight=False, soft_wrap=True)
    for line in others:
        errors.print(line, markup=False, highlight=False, soft_wrap=True)


def from_os_error(error: OSError) -> Problem | None:
    """Return the problem behind ``error``, or None when it is not one of disk or permissions."""
    place = error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(
            f"{place} could not be written: no space left.",
            cause="the disk or your quota on it is full",
            type_this="df -h . # then make room and run the same command again",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return Problem(
            f"{place} may not be written or read by you.",
            cause="an earlier run as another user (sudo?) made it",
            type_this='sudo chown -R "$USER" .lab workspace  # in the project folder',
        )
    if error.errno == errno.EROFS:
        return Problem(
            f"{place} is on a disk mounted read-only.",
            cause="the project was checked out onto a read-only share",
            type_this="cp -r . ~/finetune-lab  # and work there",
        )
    return None

"""``invoke node.check``: is this node fit for jobs? One line, one exit code, the record of verify.

For what runs before a job and may not wait: a prolog of Slurm, a job of Kubernetes, cron.
`docs/node-check.md` has examples. Exit codes: 0 ready, 3 not ready, 2 wrong usage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Final

from verify import files, node_process
from verify.cli import FAULT, READY
from verify.lab.layout import Layout
from verify.lab.problems import WRONG_USAGE, Problem
from verify.labs import find_labs
from verify.machine import advice
from verify.outcome import Outcome
from verify.results import CheckResult, Run
from verify.show import Screen, drop_output

SKILL: Final = "environment"


class _Silent(Screen):
    """Shows nothing of the single checks."""

    def event(self, event: dict[str, Any]) -> None:
        """Show nothing."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        quiet: Print one line.
        workload: Compute on the GPU too.
        json: A file for the record.
        junit: A file for the record, as JUnit XML.
        color: Whether to use colour.
    """

    quiet: bool = False
    workload: bool = False
    json: Path | None = None
    junit: Path | None = None
    color: bool = True


def run(layout: Layout, asked: Asked) -> int:
    """Look at this node, show and write what was found, and return the exit code."""
    files.require_folders(asked.json, asked.junit)
    began = time.perf_counter()
    screen = (_Silent if asked.quiet else Screen)(color=asked.color)
    try:
        record = look(layout, screen, workload=asked.workload)
    except (Problem, OSError) as error:
        problem = error if isinstance(error, Problem) else _unreadable(error)
        if asked.quiet:
            _say(_line("node", problem.happened, problem.type_this))
        else:
            screen.problem(problem)
        return problem.code
    checks = [check for skill in record.skills for check in skill.checks]
    bad = [check for check in checks if files.is_fault(check)]
    _say(not_ready(bad) if bad else ready(checks, time.perf_counter() - began))
    try:
        files.write(record, asked.json, asked.junit)
    except Problem as problem:  # of the place for logs: it says nothing of the node
        screen.problem(problem)
        return FAULT if bad else WRONG_USAGE
    return FAULT if bad else READY


def look(layout: Layout, screen: Screen, *, workload: bool) -> Run:
    """Return the record of one look at this node.

    Raises:
        Problem: there is no environment to look from, or it did not answer in time.
    """
    outcome = Outcome(screen, {SKILL})
    with contextlib.closing(node_process.events(layout, workload=workload)) as events:
        for event in events:
            outcome.take(event)
    return outcome.record(find_labs(layout.labs), practice=False)


def ready(checks: list[CheckResult], seconds: float) -> str:
    """Return the one line for a node that is fit."""
    kind = next((it.message for it in checks if it.name == "kind_known"), "")
    passed = sum(it.status == "passed" for it in checks)
    advised = sum(it.status == "failed" for it in checks)
    told = f"; {advised} to look at: {_names(checks)}" if advised else ""
    return f"ready: {kind.partition(':')[0]}; {passed} checks passed{told} ({seconds:.1f} s)"


def not_ready(bad: list[CheckResult]) -> str:
    """Return the one line for a node that is not: the first that is wrong, and how many more."""
    first, *others = bad
    _, command = advice(first.hint or "")
    more = f" (and {len(others)} more: {', '.join(it.name for it in others)})" if others else ""
    return _line(first.name, first.message, command) + more


def _line(name: str, happened: str, fix: str) -> str:
    told = " ".join(happened.split()).rstrip(".")
    return f"NOT READY: {name}: {told}" + (f"; {fix}" if fix else "")


def _unreadable(error: OSError) -> Problem:
    return Problem(
        f"The lab cannot be looked at: {error}.",
        cause="a disk fails, or a part of the lab is another user's",
        type_this="ls -l .lab  # and the same as the user who made the lab",
    )


def _say(line: str) -> None:
    """Print one line as it is, however wide; who reads it may have left, or never was there."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except AttributeError:  # it was closed from the start
        return
    except OSError:
        drop_output()


def _names(checks: list[CheckResult]) -> str:
    return ", ".join(it.name for it in checks if it.status == "failed")

"""``invoke verify`` and ``python -m verify``: ask, show, write the files, return the exit code.

Exit codes: 0 ready, 1 not ready yet, 2 wrong usage, 3 a fault of the environment or of ours,
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from verify import asking, client, files
from verify.lab.layout import Layout, here
from verify.lab.problems import INTERRUPTED, Misuse, Problem
from verify.labs import Lab, LabError, find_labs, near
from verify.options import parser
from verify.outcome import Outcome
from verify.ownership import acting_as
from verify.results import Run
from verify.show import Screen
from verify.submit import read_exercise

READY, NOT_READY, FAULT = 0, 1, 3


def run(arguments: Sequence[str]) -> int:
    """Verify as ``arguments`` say and return the exit code."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said what is wrong, or printed its help
        return int(stop.code or 0)
    screen = Screen(color=not options.no_color)
    try:
        return _verify(options, screen)
    except Problem as problem:
        screen.problem(problem)
        return problem.code
    except KeyboardInterrupt:
        screen.line("Interrupted.")
        return INTERRUPTED


def _verify(options: argparse.Namespace, screen: Screen) -> int:
    layout = here()
    options.labs = options.labs and options.labs.resolve()
    labs = _labs(options.labs or layout.labs)
    chosen = _chosen(labs, options.skill or [])
    workspace = _workspace(options.workspace, layout)
    files.require_folders(options.json, options.junit)
    with acting_as(layout.reader(workspace)):
        submissions = [read_exercise(lab, workspace) for lab in chosen]
    outcome = Outcome(screen, {lab.skill for lab in chosen if not lab.exercise})
    try:
        asking.ask(options, layout, submissions, outcome, screen)
    except client.Refused as refusal:
        raise Problem(
            f"The runner refused: {refusal}",
            cause="it is of another version than this client, or it failed",
            type_this="invoke lab.up, then invoke verify again",
        ) from refusal
    except client.RunnerLost as lost:
        from verify.lab import damage  # noqa: PLC0415 - most runs lose no runner

        found = damage.find(layout) if layout.holds_keys else ""
        raise Problem(
            f"The runner ended in the middle of {outcome.doing} ({lost}).",
            cause=f"the lab's environment is not whole: {found}"
            if found
            else "it was stopped or killed; what it had decided before is kept",
            type_this=damage.MEND if found else "invoke lab.up, then invoke verify again",
        ) from lost
    record = outcome.record(labs, practice=options.seed is not None)
    # Before the last lines, which a closed pipe may never take.
    files.write(record, options.json, options.junit)
    screen.summary(record)
    return _exit_code(record, all_skills=not options.skill)


def _labs(root: Path) -> list[Lab]:
    try:
        labs = find_labs(root)
    except LabError as error:
        raise Problem(
            str(error), cause="the lab's folder was changed", type_this="git status labs"
        ) from error
    if not labs:
        raise Problem(
            f"There is no lab in {root}.",
            cause="no folder in it holds a lab.toml",
            type_this="git status labs",
        )
    return labs


def _workspace(given: Path | None, layout: Layout) -> Path:
    """Return the folder of the exercises; one that was given must be there."""
    if given is not None and not given.is_dir():
        raise Misuse(
            f"There is no folder {given}.",
            cause="--workspace names the folder that holds <skill>/exercise.py",
            type_this="invoke verify, with the right folder or without --workspace",
        )
    return given or layout.workspace


def _chosen(labs: list[Lab], skills: list[str]) -> list[Lab]:
    """Return the labs that were asked for, each once and in the course's order; none means all."""
    known = [lab.skill for lab in labs]
    for skill in skills:
        if skill not in known:
            alike = near(skill, known)
            meant = f"Did you mean {' or '.join(f'`{name}`' for name in alike)}? " if alike else ""
            raise Misuse(
                f"There is no skill `{skill}`. {meant}The skills are: {', '.join(known)}.",
                type_this=f"invoke verify --skill {(alike or known)[0]}",
            )
    return [lab for lab in labs if not skills or lab.skill in skills]


def _exit_code(record: Run, *, all_skills: bool) -> int:
    """Return the exit code: with all skills, the optional ones do not count.

    A fault of the machine always does: on it no other verdict is worth much.
    """
    if any(files.is_fault(check) for skill in record.skills for check in skill.checks):
        return FAULT
    counted = [skill for skill in record.skills if skill.required or not all_skills]
    return READY if all(skill.ready for skill in counted) else NOT_READY


def main() -> None:
    """Run with the command line's arguments and exit."""
    sys.exit(run(sys.argv[1:]))

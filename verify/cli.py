"""``invoke verify`` and ``python -m verify``: ask, show, write the files, return the exit code.

Exit codes: 0 ready, 1 not ready yet, 2 wrong usage, 3 a fault of the environment or of ours,
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from verify import client, files
from verify.channel import Channel
from verify.lab.layout import InImage, Layout, here
from verify.lab.problems import INTERRUPTED, Misuse, Problem
from verify.labs import Lab, LabError, find_labs, near
from verify.options import parser
from verify.outcome import Outcome
from verify.ownership import acting_as
from verify.plain import Plain
from verify.results import Run
from verify.show import Screen
from verify.submit import read_exercise

READY, NOT_READY, FAULT = 0, 1, 3
_PATIENCE = {"compose": 60.0, "local": 0.0}  # seconds; nobody starts a local runner anew


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
        _ask(options, layout, submissions, outcome, screen)
    except client.Refused as refusal:
        raise Problem(
            f"The runner refused: {refusal}",
            cause="it is of another version than this client, or it failed",
            type_this="invoke lab.up, then invoke verify again",
        ) from refusal
    except client.RunnerLost as lost:
        raise Problem(
            f"The runner ended in the middle of {outcome.doing} ({lost}).",
            cause="it was stopped or killed; what it had decided before is kept",
            type_this="invoke lab.up, then invoke verify again",
        ) from lost
    record = outcome.record(labs, practice=options.seed is not None)
    # Before the last lines, which a closed pipe may never take.
    files.write(record, options.json, options.junit)
    screen.summary(record)
    return _exit_code(record, all_skills=not options.skill)


def _ask(
    options: argparse.Namespace,
    layout: Layout,
    submissions: list[dict[str, Plain]],
    outcome: Outcome,
    screen: Screen,
) -> None:
    """Have the runner that was asked for judge ``submissions``, a resident one if any answers."""
    resident = layout.runners if options.labs is None else {}
    for name, place in resident.items():
        if options.runtime not in ("auto", name):
            continue
        connect = functools.partial(client.connect, place)
        try:
            if not isinstance(place, Path):
                client.hello(place)  # that a command starts says nothing of who answers
            client.persist(connect, submissions, options.seed, outcome.take, _PATIENCE[name])
        except client.NoRunner:
            if _is_only_busy(layout, place):
                raise _no_runner(name, layout) from None
        else:
            return
    if options.runtime in resident or not layout.holds_keys:
        raise _no_runner(options.runtime, layout)
    with _standalone(layout, options.labs, screen) as channel:
        client.verify(channel, submissions, options.seed, outcome.take)


def _is_only_busy(layout: Layout, place: client.Place) -> bool:
    """Tell whether the containers' runner is up but does not answer.

    Then nothing is judged beside it: whoever keeps it busy would have brought the learner's code
    out of its container.
    """
    outside = not isinstance(layout, InImage)
    expected = place == layout.runners["compose"]
    return outside and expected and isinstance(place, Path) and place.exists()


def _no_runner(runtime: str, layout: Layout) -> Problem:
    if not layout.holds_keys:
        return Problem(
            "The runner does not answer, and nothing can be judged in JupyterLab's own container.",
            cause="the runner's container is not up; this one holds no checks, by design",
            type_this="invoke lab.up  # on the host, in the project's folder; then this again",
        )
    return Problem(
        f"No {runtime} runner answers.",
        cause="it is not running, or too busy to answer",
        type_this=f"invoke lab.up --runtime {runtime}  # or: invoke verify --runtime standalone",
    )


def _standalone(
    layout: Layout, labs: Path | None, screen: Screen
) -> contextlib.AbstractContextManager[Channel]:
    if platform.system() != "Linux":
        raise Problem(
            f"Learner code cannot be sealed on {platform.system()}.",
            cause="the walls are made of parts of Linux",
            type_this="the same on Linux, in a Linux virtual machine or in WSL 2",
        )
    python = client.interpreter(layout.python)
    if python is None:
        raise Problem(
            "Nothing here can judge: no runner is up, and the lab environment is not there.",
            cause="no runner answers, and this Python has no torch to judge without one",
            type_this="invoke lab.up",
        )
    screen.waiting("No resident runner: starting one for this run, which takes some seconds")
    return client.standalone(python, labs or layout.labs, layout.standalone_results)


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

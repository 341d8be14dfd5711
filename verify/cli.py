"""``invoke verify`` and ``python -m verify``: ask, show, write the files, return the exit code.

Exit codes: 0 ready, 1 not ready yet, 2 wrong usage, 3 a fault of the environment or of ours,
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from verify import client
from verify.channel import Channel
from verify.lab.layout import Layout
from verify.lab.problems import INTERRUPTED, Misuse, Problem
from verify.labs import Lab, LabError, find_labs, near
from verify.options import parser
from verify.readiness import readiness
from verify.results import Environment, Run, SkillResult
from verify.show import Screen
from verify.submit import read_exercise

READY, NOT_READY, FAULT = 0, 1, 3
PROJECT: Final = Path(__file__).resolve().parents[1]


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
    layout = Layout(PROJECT)
    options.labs = options.labs and options.labs.resolve()
    labs = _labs(options.labs or layout.labs)
    chosen = _chosen(labs, options.skill or [])
    workspace = _workspace(options.workspace, layout)
    submissions = [read_exercise(lab, workspace) for lab in chosen]
    outcome = _Outcome(screen)
    with _runner(options.runtime, layout, options.labs, screen) as channel:
        try:
            client.verify(channel, submissions, options.seed, outcome.take)
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
    _write(record, options)  # before the last lines, which a closed pipe may never take
    screen.summary(record)
    return _exit_code(record, all_skills=not options.skill)


class _Outcome:
    """Collects a run's events into its record and shows each as it comes."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._seed = 0
        self._environment: Environment | None = None
        self._skills: list[SkillResult] = []
        self.doing = "the start"

    def take(self, event: dict[str, Any]) -> None:
        """Take one of the runner's events."""
        if event["event"] == "environment":
            self._seed = event["seed"]
            self._environment = msgspec.convert(event["environment"], Environment)
        elif event["event"] == "job":
            self.doing = f"`{event['skill']}`"
        elif event["event"] == "skill":
            self._skills.append(msgspec.convert(event["skill"], SkillResult))
        self._screen.event(event)

    def record(self, labs: list[Lab], *, practice: bool) -> Run:
        """Return the run's record."""
        assert self._environment is not None
        return Run(
            seed=self._seed,
            practice=practice,
            started=self._started,
            environment=self._environment,
            readiness=readiness(self._skills, labs),
            skills=self._skills,
        )


@contextlib.contextmanager
def _runner(runtime: str, layout: Layout, labs: Path | None, screen: Screen) -> Iterator[Channel]:
    """Yield a channel to the runner that ``runtime`` asks for."""
    with contextlib.ExitStack() as stack:
        if runtime != "standalone" and labs is None:
            try:
                channel = stack.enter_context(client.connect(layout.socket))
            except client.NoRunner as error:
                if runtime == "local":
                    raise Problem(
                        "No local runner answers.",
                        cause=f"it is not running ({error})",
                        type_this="invoke lab.up",
                    ) from error
            else:
                yield channel
                return
        yield stack.enter_context(_standalone(layout, labs, screen))


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
            "The lab environment is not there.",
            cause="this Python has no torch, and `invoke lab.up` has not made the lab's own yet",
            type_this="invoke lab.up",
        )
    screen.waiting("No resident runner: starting one for this run, which takes some seconds")
    results = layout.state / "standalone" / "results.sqlite"
    return client.standalone(python, labs or layout.labs, results)


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


def _write(record: Run, options: argparse.Namespace) -> None:
    """Write the record to the files that were asked for."""
    for file, write in ((options.json, _json), (options.junit, _junit)):
        if file is None:
            continue
        try:
            write(record, file)
        except OSError as error:
            raise Problem(
                f"{file} could not be written: {error.strerror}.",
                cause="the folder is not there, is full, or is not yours",
                type_this="the same with another file",
            ) from error


def _json(record: Run, file: Path) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _junit(record: Run, file: Path) -> None:
    from verify.junit import write  # noqa: PLC0415 - its library is needed here only

    write(record, file)


def _exit_code(record: Run, *, all_skills: bool) -> int:
    """Return the exit code: with all skills, the optional ones do not count."""
    if any(check.status == "error" for skill in record.skills for check in skill.checks):
        return FAULT
    counted = [skill for skill in record.skills if skill.required or not all_skills]
    return READY if all(skill.ready for skill in counted) else NOT_READY


def main() -> None:
    """Run with the command line's arguments and exit."""
    sys.exit(run(sys.argv[1:]))

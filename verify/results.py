"""The one record of a verification: what is stored, printed, exported and tested."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

SCHEMA: Final = 1
"""Version of the record; a field that changes its meaning or goes away makes it 2."""

READING: Final = "exercise"
"""The check that comes first in every lab: the file is there and is Python."""

Status = Literal["passed", "failed", "not_run", "error"]


class CheckResult(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How one check ended.

    Attributes:
        name: The check's id in its lab.
        title: The sentence that must hold.
        level: ``check`` must hold; ``advice`` never fails a skill.
        evidence: ``value``: the judge computed the truth; ``probe``: read in the learner's process
            or, of the machine, by the judge or the client.
        status: ``error``: no verdict could be reached, a fault of the environment or of ours.
        cause: For ``failed``: wrong, crashed, timeout, memory, output or protocol, the learner's;
            or ``environment``, the machine's. For ``not_run``: ``waits`` (for another check) or
            ``missing`` (a part of the machine).
        message: What was asked and what came back; of the machine: what holds, or what does not.
        hint: What to do: of a recognised misconception, or a machine's fault's likely cause and
            "Type: " with a command; else null.
        misconception: The recognised misconception's name, or null.
        seconds: How long it took.
        review: The section of the lesson to read.
    """

    name: str
    title: str
    level: Literal["check", "advice"]
    evidence: Literal["value", "probe"]
    status: Status
    cause: str | None = None
    message: str = ""
    hint: str | None = None
    misconception: str | None = None
    seconds: float = 0.0
    review: str = ""


class SkillResult(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One skill's checks, and whether it is ready: every check of level ``check`` holds.

    A lab without an exercise is such a skill too: it is never required.

    Attributes:
        review: What to review when it is not ready.
        exercise_sha256: Of the learner's file as it was judged, or null where there was none.
        job: The id under which the runner keeps it.
        output: The first of what the exercise printed, without control characters.
    """

    skill: str
    title: str
    required: bool
    ready: bool
    review: str
    job: str
    exercise_sha256: str | None
    checks: list[CheckResult]
    output: str = ""


class Environment(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where and how a run was judged.

    Attributes:
        runtime: ``local`` or ``compose`` (the resident runner), ``standalone`` (a runner of this
            run's own) or ``node`` (none: `verify.node`).
        sealing: ``full``, ``partial`` or ``none``.
        walls: The walls around the learner's process.
        notes: What a reader should know of them, in sentences.
        versions: Of Python, torch and the libraries, by distribution name.
        gpu: The GPU's name, or null.
    """

    runtime: str
    sealing: Literal["full", "partial", "none"]
    walls: list[str]
    notes: list[str]
    versions: dict[str, str]
    gpu: str | None
    machine: str


class Readiness(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the required skills that were verified say.

    Attributes:
        ready: All required skills of this course were verified and are ready.
        missing: Required skills that were verified and are not ready.
        not_verified: Required skills that this run did not look at.
        advice: What to do next, in a sentence.
        review: What to review, for each missing skill.
        next: What to type next, with the reason after `#` where there is one to give.
    """

    ready: bool
    missing: list[str]
    not_verified: list[str]
    advice: str
    review: dict[str, str]
    next: str = ""


class Run(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A whole verification.

    Attributes:
        seed: What the inputs were drawn from; printed so that a run can be repeated.
        practice: The seed was asked for: the run proves nothing to others.
        started: UTC, ISO 8601.
    """

    schema: int = SCHEMA
    seed: int
    practice: bool
    started: str
    environment: Environment
    readiness: Readiness
    skills: list[SkillResult]


def is_ready(checks: list[CheckResult]) -> bool:
    """Tell whether a skill is ready: no check failed or waits, and one at least passed."""
    counted = [check for check in checks if check.level == "check"]
    held = [check.status == "passed" for check in counted]
    excused = [check.status == "not_run" and check.cause == "missing" for check in counted]
    return any(held) and all(h or e for h, e in zip(held, excused, strict=True))

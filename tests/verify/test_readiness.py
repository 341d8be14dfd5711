"""From verdicts to readiness."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from verify.labs import Lab, Limits
from verify.readiness import readiness
from verify.results import CheckResult, SkillResult, is_ready


def lab(name: str, required: bool = True) -> Lab:
    return Lab(name, Path(name), name.title(), 1, required, f"Module {name}", {}, Limits())


def skill(name: str, ready: bool, required: bool = True) -> SkillResult:
    return SkillResult(
        skill=name,
        title=name,
        required=required,
        ready=ready,
        review=f"Module {name}",
        job="1",
        exercise_sha256=None,
        checks=[],
    )


def check(status: Any, cause: str | None = None, level: Any = "check") -> CheckResult:
    return CheckResult(
        name="c", title="t", level=level, evidence="value", status=status, cause=cause
    )


LABS = [lab(name) for name in "abcd"] + [lab("extra", required=False)]


def test_nothing_missing_goes_on() -> None:
    told = readiness([skill(name, True) for name in "abcd"], LABS)
    assert told.ready
    assert "go on to fine-tuning" in told.advice
    assert told.next == "invoke quickstart"


@pytest.mark.parametrize("gaps", ["a", "ab"])
def test_one_or_two_gaps_are_hours_of_review(gaps: str) -> None:
    told = readiness([skill(name, name not in gaps) for name in "abcd"], LABS)
    assert not told.ready
    assert "2 to 4 hours" in told.advice
    assert f"{len(gaps)} of 4 required skills" in told.advice
    assert told.review == {name: f"Module {name}" for name in gaps}
    assert told.next.startswith("invoke verify --skill a  # after its lesson, a/README.md")


def test_three_gaps_are_the_modules_first() -> None:
    told = readiness([skill(name, name == "d") for name in "abcd"], LABS)
    assert "prerequisite modules first" in told.advice
    assert told.missing == ["a", "b", "c"]
    assert told.review == {name: f"Module {name}" for name in "abc"}


def test_a_file_that_is_not_there_shows_no_gap() -> None:
    unread = skill("a", False)
    unread.checks = [check("failed")]
    unread.checks[0].name = "exercise"
    told = readiness([unread], LABS)
    assert "a could not be judged" in told.advice
    assert "hours" not in told.advice
    assert told.next.startswith("invoke verify --skill a  # when that is mended")
    assert told.missing == ["a"]


def test_a_gap_is_counted_among_what_was_verified() -> None:
    told = readiness([skill("a", False), skill("b", True)], LABS)
    assert told.advice == (
        "1 of 2 required skills to review: about 2 to 4 hours. 2 skills not verified in this run."
    )


def test_an_optional_skill_that_was_asked_for_alone_is_what_comes_next() -> None:
    told = readiness([skill("extra", False, required=False)], LABS)
    assert told.advice == "No required skill was verified in this run."
    assert told.next.startswith("invoke verify --skill extra  # after its lesson")
    passed = readiness([skill("extra", True, required=False)], LABS)
    assert passed.next.startswith("invoke verify --skill a ")
    beside = readiness([skill("a", True), skill("extra", False, required=False)], LABS)
    assert beside.next.startswith("invoke verify --skill b ")


def test_optional_skills_never_block() -> None:
    skills = [skill(name, True) for name in "abcd"] + [skill("extra", False, required=False)]
    assert readiness(skills, LABS).ready


def test_a_machine_that_is_not_fit_is_told_first_and_is_no_gap() -> None:
    machine = dataclasses.replace(lab("machine", required=False), exercise=False)
    skills = [skill("machine", False, required=False), *(skill(name, True) for name in "abcd")]
    told = readiness(skills, [machine, *LABS])
    assert told.advice.startswith("First mend what `machine` names. Every required skill is ready")
    assert (told.ready, told.missing) == (True, [])
    assert told.next.startswith("invoke verify --skill machine ")


def test_what_was_not_looked_at_is_not_ready() -> None:
    told = readiness([skill("a", True)], LABS)
    assert not told.ready
    assert told.not_verified == ["b", "c", "d"]
    assert told.missing == []


@pytest.mark.parametrize(
    ("verified", "comes_next"),
    [
        ("a", "invoke verify --skill b "),
        ("bc", "invoke verify --skill d "),
        ("d", "invoke verify "),
    ],
)
def test_after_a_skill_comes_the_next_one_and_after_the_last_all(
    verified: str, comes_next: str
) -> None:
    told = readiness([skill(name, True) for name in verified], LABS)
    assert told.next.startswith(comes_next)


@pytest.mark.parametrize(
    ("checks", "ready"),
    [
        ([check("passed")], True),
        ([check("passed"), check("failed")], False),
        ([check("passed"), check("error")], False),
        ([check("passed"), check("not_run", "missing")], True),
        ([check("passed"), check("not_run", "waits")], False),
        ([check("not_run", "missing")], False),
        ([check("passed"), check("failed", level="advice")], True),
        ([check("passed", level="advice")], False),
        ([], False),
    ],
)
def test_a_skill_is_ready_when_every_check_holds(checks: list[CheckResult], ready: bool) -> None:
    assert is_ready(checks) is ready

"""The record as JUnit XML, for continuous integration and fleets."""

from __future__ import annotations

from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from verify.results import CheckResult, Run


def write(run: Run, file: Path) -> None:
    """Write ``run`` to ``file``: a suite for each skill, a case for each check.

    Advice that is not followed is no failure: it stands in the case's output.
    """
    xml = JUnitXml("verify")
    for skill in run.skills:
        suite = TestSuite(skill.skill)
        suite.timestamp = run.started
        for name, value in (
            ("schema", run.schema),
            ("seed", run.seed),
            ("practice", str(run.practice).lower()),
            ("runtime", run.environment.runtime),
            ("sealing", run.environment.sealing),
            ("exercise_sha256", skill.exercise_sha256 or ""),
        ):
            suite.add_property(name, str(value))
        for check in skill.checks:
            suite.add_testcase(_case(skill.skill, check))
        xml.add_testsuite(suite)
    xml.write(str(file), pretty=True)


def _case(skill: str, check: CheckResult) -> TestCase:
    case = TestCase(check.name, classname=f"verify.{skill}", time=check.seconds)
    text = " ".join(part for part in (check.message, check.hint) if part)
    if check.status == "error":
        case.result = [Error(text, check.cause)]
    elif check.status == "not_run":
        case.result = [Skipped(text)]
    elif check.status == "failed" and check.level == "check":
        case.result = [Failure(text, check.cause)]
    elif text:
        case.system_out = text
    return case

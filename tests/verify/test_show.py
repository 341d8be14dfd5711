"""What the terminal shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.verify import test_readiness as made
from verify.results import READING, Environment, Readiness, Run
from verify.show import Screen


def event(name: str, status: str, **more: Any) -> dict[str, Any]:
    result = {"name": name, "title": f"`{name}` holds.", "level": "check", "evidence": "value"}
    return {"event": "result", "result": {**result, "status": status, **more}}


def skill(*results: dict[str, Any], ready: bool) -> dict[str, Any]:
    checks = [result["result"] for result in results]
    told = {"skill": "memory", "title": "Memory", "required": True, "ready": ready}
    told |= {"review": "Module", "job": "1", "exercise_sha256": None, "checks": checks}
    return {"event": "skill", "skill": told}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "60")
    return Screen()


def shown(screen: Screen, capsys: pytest.CaptureFixture[str], *events: dict[str, Any]) -> str:
    for one in events:
        screen.event(one)
    return capsys.readouterr().out


LONG = "It is a long sentence that says what came back and goes on for more than a line."


def test_long_lines_hang_under_their_mark(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = event("a", "failed", cause="wrong", message=LONG, hint=LONG, review="Section")
    lines = shown(screen, capsys, failed).splitlines()
    assert all(len(line) < 60 and line == line.rstrip() for line in lines)
    assert lines[0] == "  ✗ `a` holds."
    hint = next(i for i, line in enumerate(lines) if "Hint:" in line)
    assert lines[hint].startswith("      Hint: It is")
    assert lines[hint + 1].startswith("        ")
    assert lines[-1].startswith("      Review: the lesson")


def test_checks_that_wait_for_the_same_are_one_line(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = [
        event(name, "not_run", cause="waits", message="not run: first `a` must hold")
        for name in "bc"
    ]
    out = shown(screen, capsys, *waiting, skill(*waiting, ready=False))
    assert "2 checks not run: first `a` must hold (b, c)" in out


def test_a_missing_part_is_counted_apart(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [
        event("a", "passed"),
        event("b", "not_run", cause="missing", message="not run: no GPU"),
    ]
    out = shown(screen, capsys, *results, skill(*results, ready=True))
    assert "`b` holds. (not run: no GPU)" in out
    assert "ready: 1 of 1 checks passed, 1 not run here" in out


def test_markup_in_learner_text_is_text(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    text = "act(1): raised E: [bold red]x[/] [link=http://a]y"
    assert "[bold red]x[/] [link=http://a]y" in " ".join(
        shown(screen, capsys, event("a", "failed", message=text)).split()
    )


def test_what_the_exercise_printed_is_shown_when_it_is_not_ready(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = event("a", "failed", message="x")
    told = skill(failed, ready=False)
    told["skill"]["output"] = "\n".join(f"line {n}" for n in range(30))
    out = shown(screen, capsys, failed, told)
    assert "the last 10 of 30 lines" in out
    assert "    | line 29\n" in out
    assert "line 19\n" not in out


def test_advice_has_a_mark_of_its_own(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(screen, capsys, event("a", "failed", level="advice", message="x"))
    assert out.startswith("  ! ")


@pytest.mark.parametrize("practice", [True, False])
def test_the_summary_names_reviews_seed_and_sealing(
    screen: Screen, capsys: pytest.CaptureFixture[str], practice: bool
) -> None:
    environment = Environment(
        runtime="local", sealing="partial", walls=[], notes=[], versions={}, gpu=None, machine=""
    )
    optional = made.skill("extra", ready=False, required=False)
    optional.checks = [made.check("passed")]
    optional.checks[0].name = READING
    readiness = Readiness(
        ready=False,
        missing=["memory"],
        not_verified=[],
        advice="Review.",
        review={"memory": "M 1.3"},
        next="invoke verify --skill memory  # after its lesson",
    )
    screen.summary(
        Run(
            seed=5,
            practice=practice,
            started="",
            environment=environment,
            readiness=readiness,
            skills=[optional],
        )
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "memory: review M 1.3" in out
    assert "optional, not ready: extra" in out
    assert "Next: invoke verify --skill memory # after its lesson" in out
    assert "seed 5" in out
    assert "local runner, sealing partial" in out
    assert ("practice" in out) is practice


def test_a_fault_of_the_machine_is_shown_with_its_cause_and_a_command_to_copy(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "invoke lab.down && rm -rf .lab/venv && invoke lab.up  # the same again"
    hint = f"Something else was installed. Type: {command}"
    failed = event("a", "failed", cause="environment", message=LONG, hint=hint, review="Section")
    lines = shown(screen, capsys, failed).splitlines()
    assert lines[0] == "  ✗ `a` holds."
    assert "      Likely cause: Something else was installed" in lines
    assert lines[-1] == f"      Type: {command}", "in one line, however long"
    assert not any("Hint" in line or "Review" in line for line in lines)


def test_what_holds_is_told_in_brackets(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(screen, capsys, event("a", "passed", message="3 GiB."), event("b", "passed"))
    assert out.splitlines() == ["  ✓ `a` holds. (3 GiB)", "  ✓ `b` holds."]

"""What the client makes of a run's events."""

from __future__ import annotations

from typing import Any

import pytest

from verify.outcome import Outcome
from verify.show import Screen

ENVIRONMENT = {
    "runtime": "compose",
    "sealing": "full",
    "walls": [],
    "notes": [],
    "versions": {},
    "gpu": None,
    "machine": "Linux",
}


def skill(name: str) -> dict[str, Any]:
    told = {"skill": name, "title": name, "required": True, "ready": True, "review": ""}
    return {"event": "skill", "skill": {**told, "job": name, "exercise_sha256": None, "checks": []}}


def test_a_runner_that_was_started_anew_on_the_way_is_in_the_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = Outcome(Screen(color=False), set())
    events: list[dict[str, Any]] = [
        {"event": "environment", "seed": 1, "environment": ENVIRONMENT},
        skill("memory"),
        {"event": "lost"},
        {"event": "environment", "seed": 2, "environment": ENVIRONMENT},
        skill("peft"),
    ]
    for event in events:
        outcome.take(event)
    record = outcome.record([], practice=False)
    assert record.seed == 1
    assert [each.skill for each in record.skills] == ["memory", "peft"]
    assert record.environment.notes == [
        "The runner ended after memory and was started anew: from there on the seed is 2."
    ]
    assert "The runner ended on the way; waiting for it to come back." in capsys.readouterr().out

"""The client's part in checks of the machine: joined to the runner's in one record."""

from __future__ import annotations

from typing import Any

import pytest

from tests.verify.test_readiness import check, skill
from verify import host_half
from verify.results import CheckResult, Environment


def environment(runtime: str, torch: str | None) -> Environment:
    return Environment(
        runtime=runtime,
        sealing="partial",
        walls=[],
        notes=[],
        versions={"torch": torch} if torch else {},
        gpu=None,
        machine="Linux",
    )


@pytest.mark.parametrize(
    ("found", "ready"),
    [
        ([], True),
        ([check("passed"), check("not_run", "missing")], True),
        ([check("failed", "environment")], False),
        ([check("failed", "environment", level="advice")], True),
        ([check("error")], False),
    ],
)
def test_it_is_ready_only_if_both_halves_are(found: list[CheckResult], ready: bool) -> None:
    runners = skill("environment", True, required=False)
    runners.checks = [check("passed")]
    whole = host_half.join(runners, found)
    assert whole.ready is ready
    assert whole.checks == [*runners.checks, *found]


def test_what_the_runner_found_is_not_mended_by_the_host() -> None:
    runners = skill("environment", False, required=False)
    runners.checks = [check("failed", "environment")]
    assert not host_half.join(runners, [check("passed")]).ready


@pytest.mark.parametrize(
    ("torch", "variant"),
    [
        ("2.13.0+cpu", "cpu"),
        ("2.13.0", "gpu"),
        ("2.14.0a0+4fdf77b940.nv26.8.63802676", "gpu"),
        (None, ""),
    ],
)
def test_what_must_hold_follows_where_the_runner_runs(
    monkeypatch: pytest.MonkeyPatch, torch: str | None, variant: str
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        host_half.host, "checks", lambda *of, **more: asked.append((of, more)) or []
    )
    assert list(host_half.look(environment("compose", torch))) == []
    assert asked == [(("compose", variant), {"sealing": "partial", "notes": ()})]

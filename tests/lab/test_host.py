"""The host half of the environment lab: what must hold there, what is advice, what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.machines import (
    NO_DOCKER,
    NO_GPU,
    NOT_ALLOWED,
    STALE,
    engine,
    gb10,
    needs_engine,
    seen,
)
from verify.lab import choice, host
from verify.lab.layout import InImage
from verify.results import CheckResult

GOOD = engine("docker-28-cdi")
PLAIN = engine("docker-26", Runtimes={"runc": {}})
NAMES = ["host_engine", "host_compose", "host_driver", "host_toolkit", "host_cdi"]


def checked(*of: Any, runtime: str = "", variant: str = "") -> dict[str, CheckResult]:
    return {it.name: it for it in host.checks(runtime, variant, seen(*of))}


def statuses(results: dict[str, CheckResult]) -> list[str]:
    return [results[name].status for name in NAMES]


P, F, N = "passed", "failed", "not_run"


@pytest.mark.parametrize(
    ("found", "gpu", "expected"),
    [
        # engine, compose, driver, toolkit, cdi
        (GOOD, gb10(), [P, P, P, P, P]),
        (GOOD, NO_GPU, [P, P, N, N, N]),
        (NO_DOCKER, NO_GPU, [N, N, N, N, N]),
        (NO_DOCKER, gb10(), [N, N, P, N, P]),
        (NOT_ALLOWED, NO_GPU, [F, N, N, N, N]),
        (engine("docker-28-cdi", ServerVersion="24.0.9"), NO_GPU, [P, F, N, N, N]),
        (GOOD, gb10(driver="575.57.08"), [P, P, F, P, P]),
        (PLAIN, gb10(toolkit=None, specifications=()), [P, P, P, F, N]),
        (GOOD, gb10(specifications=(STALE,)), [P, P, P, P, F]),  # the runtime serves
        (PLAIN, gb10(specifications=(STALE,)), [P, P, P, F, F]),
    ],
)
def test_each_machine_gets_its_results(found: Any, gpu: Any, expected: list[str]) -> None:
    assert statuses(checked(found, gpu)) == expected


@pytest.mark.parametrize(
    ("runtime", "variant", "must"),
    [
        ("", "", []),
        ("local", "cpu", []),
        ("local", "gpu", ["host_driver"]),
        ("compose", "cpu", ["host_engine", "host_compose"]),
        ("compose", "gpu", NAMES),
    ],
)
def test_what_the_lab_needs_must_hold_and_the_rest_is_advice(
    runtime: str, variant: str, must: list[str]
) -> None:
    results = checked(GOOD, gb10(), runtime=runtime, variant=variant)
    assert [name for name in NAMES if results[name].level == "check"] == must


def test_a_failure_says_what_happened_why_and_what_to_type() -> None:
    result = checked(NOT_ALLOWED)["host_engine"]
    assert result.cause == "environment"
    assert result.message == "You may not use it."
    assert result.hint == "No group. Type: sudo usermod -aG docker $USER"
    assert result.evidence == "probe"


def test_what_is_not_there_and_not_needed_is_no_failure() -> None:
    results = checked(NO_DOCKER)
    assert {it.cause for it in results.values()} == {"missing"}
    assert results["host_engine"].message == (
        "not run: no Docker engine; the local runtime needs none"
    )
    assert results["host_driver"].message == "not run: no NVIDIA GPU"
    assert all(it.hint is None for it in results.values())


def test_what_holds_says_what_it_saw() -> None:
    results = checked(GOOD, gb10())
    assert results["host_engine"].message == "Docker Engine 28.5.2+dfsg4 (amd64, cgroup v1)"
    assert results["host_driver"].message == "NVIDIA GB10, driver 580.159.03"
    assert results["host_toolkit"].message == "by cdi"
    assert results["host_cdi"].message == "/etc/cdi/nvidia.yaml"


def test_in_a_container_nothing_of_the_host_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> Any:
        raise AssertionError("looked")

    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setattr(host, "here", lambda: InImage(tmp_path))
    results = host.checks("compose", "gpu", choice.Seen(never, never))
    assert [it.name for it in results] == NAMES
    assert {(it.level, it.status, it.cause) for it in results} == {("advice", N, "missing")}
    assert "invoke verify --skill environment" in results[0].message


@needs_engine
def test_a_real_engine_passes() -> None:
    results = {it.name: it for it in host.checks(runtime="compose")}
    assert statuses(results)[:2] == [P, P]
    assert results["host_engine"].level == "check"


def test_a_machine_without_docker_is_really_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [it.status for it in host.checks()][:2] == [N, N]

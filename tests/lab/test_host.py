"""The host half of the environment lab: what must hold there, what is advice, what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.machines import (
    FRESH,
    NO_DOCKER,
    NO_GPU,
    NOT_ALLOWED,
    SPEC,
    STALE,
    engine,
    gb10,
    needs_engine,
    seen,
)
from verify.lab import cdi, choice, exposure, host, host_room, hub
from verify.lab.host_table import CHECKS
from verify.lab.layout import InImage, Layout
from verify.results import CheckResult

GOOD = engine("docker-28-cdi")
PLAIN = engine("docker-26", Runtimes={"runc": {}})
NAMES = ["host_engine", "host_compose", "host_driver", "host_toolkit", "host_cdi"]
ANYWHERE = ["host_disks", "host_workspace", "host_jupyter"]
INSIDE = ["host_disks", "host_workspace", "host_sealing", "host_offline", "host_hub"]


def inert(folder: Path, patch: pytest.MonkeyPatch) -> Layout:
    """Have a project without anything of this machine in it, and ask no network."""
    made = Layout(folder / "project")
    made.workspace.mkdir(parents=True)
    patch.setattr(host, "here", lambda: made)
    patch.setattr(exposure.containers, "of", lambda _: {})
    patch.setattr(host_room, "ENOUGH", 0)
    for name in hub.SWITCHES:
        patch.delenv(name, raising=False)
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("HOME", str(folder))
    patch.delenv("JUPYTER_RUNTIME_DIR", raising=False)
    return made


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    return inert(tmp_path, monkeypatch)


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
        (PLAIN, gb10(specifications=(STALE,)), [P, P, P, N, F]),  # said once
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


OF_A_GPU = {
    "host_driver",
    "host_kind",
    "host_gpu_health",
    "host_toolkit",
    "host_cdi",
    "host_gpu_used",
}


def test_what_is_not_there_and_not_needed_is_no_failure() -> None:
    results = checked(NO_DOCKER)
    assert {results[name].cause for name in NAMES} == {"missing"}
    assert results["host_engine"].message == (
        "not run: no Docker engine; the local runtime needs none"
    )
    assert {it.name for it in results.values() if it.message == "not run: no GPU"} == OF_A_GPU
    assert all(it.hint is None for it in results.values())
    assert all(it.message for it in results.values())


def test_a_cdi_specification_that_cannot_be_read_is_told() -> None:
    broken = cdi.Specification(SPEC, trouble="Expected `object`")
    result = checked(GOOD, gb10(specifications=(broken, FRESH)), variant="gpu")["host_cdi"]
    assert (result.status, result.level) == ("failed", "advice")
    assert result.message == f"{SPEC} cannot be read: Expected `object`."
    assert "nvidia-ctk cdi generate" in (result.hint or "")


def test_what_is_another_users_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As cron runs it for a user who did not make the lab."""

    def closed(_: Layout) -> Any:
        raise PermissionError(13, "Permission denied", "/opt/lab/.lab/run/jupyter.json")

    monkeypatch.setattr(exposure.jupyter, "service", closed)
    result = checked(NO_DOCKER)["host_jupyter"]
    assert (result.status, result.cause) == ("not_run", "missing")
    assert result.message == "not run: /opt/lab/.lab/run/jupyter.json is another user's"


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
    results = host.checks("compose", "gpu", choice.Seen(lambda: NO_DOCKER, never))
    hidden = [it for it in results if it.name not in INSIDE]
    assert {(it.level, it.status, it.cause) for it in hidden} == {("advice", N, "missing")}
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


def test_every_machine_gets_every_check_once() -> None:
    names = [it.name for it in host.checks(seen=seen(NO_DOCKER))]
    assert names == [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("host_") for name in names)


def test_what_is_of_any_runtime_must_hold_everywhere() -> None:
    for runtime, variant in (("", ""), ("local", "cpu"), ("compose", "gpu")):
        results = checked(NO_DOCKER, runtime=runtime, variant=variant)
        assert {results[name].level for name in ANYWHERE} == {"check"}


def test_a_runner_without_network_is_not_asked_for_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "labs" / "one").mkdir(parents=True)
    (tmp_path / "labs" / "one" / "checks.py").touch()
    monkeypatch.setattr(host, "here", lambda: InImage(tmp_path))
    results = {it.name: it for it in host.checks(seen=seen(NO_DOCKER))}
    assert "has no network, and needs none" in results["host_hub"].message


@pytest.mark.parametrize(
    ("sealing", "notes", "status", "told"),
    [
        ("", (), N, "no runner was asked"),
        ("full", (), P, "full"),
        ("partial", ("This kernel lets signals through.",), F, "is partial. This kernel lets"),
        ("none", (), F, "is none."),
    ],
)
def test_the_sealing_that_stands_is_told(
    sealing: str, notes: tuple[str, ...], status: str, told: str
) -> None:
    found = host.checks("local", "cpu", seen(NO_DOCKER), sealing, notes)
    (result,) = [it for it in found if it.name == "host_sealing"]
    assert (result.status, result.level) == (status, "advice")
    assert told in result.message


@pytest.mark.parametrize(
    ("gpu", "variant", "status"),
    [
        (NO_GPU, "cpu", N),
        (gb10(), "gpu", P),
        (gb10(), "cpu", F),
        (gb10(driver="575.57.08"), "cpu", N),  # why not is told by another check
        (gb10(names=("Tesla V100-SXM2-16GB",)), "cpu", N),
    ],
)
def test_a_gpu_that_lies_idle_is_told(gpu: Any, variant: str, status: str) -> None:
    result = checked(GOOD, gpu, runtime="compose", variant=variant)["host_gpu_used"]
    assert (result.status, result.level) == (status, "advice")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("NVIDIA GB10", P),
        ("NVIDIA A GPU of tomorrow", P),
        ("Tesla T4", F),  # no bfloat16
        ("Tesla V100-SXM2-16GB", F),  # no CUDA 13
    ],
)
def test_the_gpus_kind_is_told(name: str, status: str) -> None:
    result = checked(GOOD, gb10(names=(name,)), runtime="compose", variant="gpu")["host_kind"]
    assert (result.status, result.level) == (status, "check")


def test_a_stale_specification_is_named_once_and_nothing_else() -> None:
    for found in (GOOD, PLAIN, engine("docker-28-cdi", Runtimes={"runc": {}})):
        results = checked(found, gb10(specifications=(STALE,)), runtime="compose", variant="gpu")
        bad = [name for name, it in results.items() if it.status == F]
        assert bad == ["host_cdi"], found
        assert "nvidia-cdi-refresh" in (results["host_cdi"].hint or "")

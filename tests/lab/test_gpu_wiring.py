"""How containers get the GPU, and each reason why they cannot."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.machines import STALE, engine, gb10
from verify.lab import cdi
from verify.lab.engine import Engine
from verify.lab.gpu import Gpu
from verify.lab.gpu_wiring import stale_problem, wiring, wiring_problem

NO_RUNTIME = {"Runtimes": {"runc": {}}}
KNOWS = engine("docker-28-cdi", **NO_RUNTIME)
KNOWS_NONE: dict[str, Any] = {**NO_RUNTIME, "DiscoveredDevices": None}
OFF = engine("docker-28-cdi", **(KNOWS_NONE | {"CDISpecDirs": []}))
LISTS_NONE = engine("docker-28-cdi", **KNOWS_NONE)
REJECTS = engine("docker-28-spec-rejected", **NO_RUNTIME)
OLD = engine("docker-26")
OLD_WITH_CDI = engine("docker-26-cdi")
OLD_WITH_RUNTIME = engine("docker-26", Runtimes={"runc": {}, "nvidia": {}})
ROOTLESS = engine("docker-28-cdi", **KNOWS_NONE, SecurityOptions=["name=rootless"])

BARE = gb10(toolkit=None, specifications=())
NO_SPEC = gb10(specifications=())


@pytest.mark.parametrize(
    ("found", "gpu", "way"),
    [
        (KNOWS, gb10(), "cdi"),
        (KNOWS, NO_SPEC, "cdi"),  # written where we may not look
        (engine("docker-28-cdi"), gb10(), "cdi"),  # CDI before the runtime
        (engine("docker-28-cdi"), gb10(specifications=(STALE,)), "runtime"),
        (OLD_WITH_CDI, gb10(), "cdi"),
        (OLD_WITH_CDI, NO_SPEC, None),
        (OLD_WITH_RUNTIME, gb10(), "runtime"),
        (OLD_WITH_RUNTIME, BARE, "runtime"),
        (OLD, gb10(), None),
        (OFF, gb10(), None),
        (LISTS_NONE, gb10(), None),  # an engine that would say so does not know it
        (KNOWS, gb10(specifications=(STALE,)), None),
    ],
)
def test_the_way_a_container_gets_it(found: Engine, gpu: Gpu, way: str | None) -> None:
    assert wiring(found, gpu) == way
    assert (wiring_problem(found, gpu) is None) == (way is not None)


@pytest.mark.parametrize(
    ("found", "gpu", "happened", "cause", "command"),
    [
        (OLD, BARE, "cannot hand the GPU", "is not installed", "apt install nvidia-container"),
        (LISTS_NONE, BARE, "cannot hand the GPU", "is not installed", "apt install"),
        (OLD, gb10(), "does not hand out CDI", "older than 28.2", "--cdi.enabled"),
        (OFF, gb10(), "does not hand out CDI", "switched off", "--cdi.enabled"),
        (LISTS_NONE, NO_SPEC, "no CDI specification", "never written", "nvidia-cdi-refresh"),
        (OLD, NO_SPEC, "does not know NVIDIA's", "not told", "configure --runtime=docker &&"),
        (ROOTLESS, gb10(), "does not know NVIDIA's", "not told", "systemctl --user restart"),
        (
            REJECTS,
            gb10(),
            'rejects a CDI specification: invalid version "9.9.0"',
            "newer",
            "generate",
        ),
        (KNOWS, gb10(specifications=(STALE,)), "/dev/dri/card7 is gone", "changed", "cdi-refresh"),
    ],
)
def test_why_it_cannot_is_said(
    found: Engine, gpu: Gpu, happened: str, cause: str, command: str
) -> None:
    problem = wiring_problem(found, gpu)
    assert problem is not None
    assert happened in problem.happened
    assert cause in problem.cause
    assert command in problem.type_this


def test_an_older_toolkit_has_no_service_that_writes_specifications() -> None:
    problem = wiring_problem(LISTS_NONE, gb10(specifications=(), toolkit="1.17.8"))
    assert problem is not None
    assert "nvidia-ctk cdi generate" in problem.type_this


def test_only_a_specification_with_something_gone_is_out_of_date() -> None:
    assert stale_problem(gb10()) is None
    assert stale_problem(NO_SPEC) is None


def test_how_much_is_gone_is_said() -> None:
    many = cdi.Specification(STALE.file, STALE.devices, gone=("/dev/nvidia0", "/a", "/b"))
    problem = stale_problem(gb10(specifications=(many,)))
    assert problem is not None
    assert problem.happened.endswith("/dev/nvidia0 and 2 more are gone.")


def test_one_that_goes_first_hides_one_that_is_out_of_date() -> None:
    newer = cdi.Specification(STALE.file.with_name("newer.yaml"), (cdi.ALL,))
    assert wiring(KNOWS, gb10(specifications=(STALE, newer))) == "cdi"
    assert wiring(KNOWS, gb10(specifications=(newer, STALE))) is None

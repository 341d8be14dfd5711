"""The host's half of the environment lab: engine, Compose, driver, container toolkit."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Literal

from verify.lab import choice, gpu, gpu_wiring
from verify.lab.engine_troubles import NoEngine, shortfalls
from verify.lab.layout import here
from verify.lab.problems import Problem
from verify.results import CheckResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from verify.lab.choice import Seen

_NO_GPU = "not run: no NVIDIA GPU"
_NO_ENGINE = "not run: no Docker engine; the local runtime needs none"
_INSIDE = "seen from the host only: type invoke verify --skill environment there"

Finding = str | Problem | None
"""What a check found: what holds (a sentence), what does not, or None where there is nothing."""


@dataclasses.dataclass(frozen=True)
class _Check:
    """One thing to look at.

    Attributes:
        needed_by: The runtime and the variant that cannot do without; an empty one: any.
        absent: What is said where there is nothing to look at.
    """

    name: str
    title: str
    needed_by: tuple[str, str]
    absent: str
    find: Callable[[Seen], Finding]


def checks(runtime: str = "", variant: str = "", seen: Seen | None = None) -> list[CheckResult]:
    """Return what the host shows.

    What the lab needs where it runs now must hold; the rest is advice, so that a driver too old
    for CUDA does not fail a lab that runs on the CPU.

    Args:
        runtime: Where it runs: ``compose``, ``local`` or, not known, empty.
        variant: ``gpu``, ``cpu`` or, not known, empty.
        seen: What the machine has; without it, it is looked at.
    """
    if here().manifest.exists():  # in a container: nothing of the host is to be seen
        return [_result(check, "advice", "not_run", _INSIDE, "missing") for check in _CHECKS]
    seen = seen or choice.look()
    return [_look(check, seen, runtime, variant) for check in _CHECKS]


def _look(check: _Check, seen: Seen, runtime: str, variant: str) -> CheckResult:
    needs = zip(check.needed_by, (runtime, variant), strict=True)
    level: Literal["check", "advice"] = (
        "check" if all(needed in ("", now) for needed, now in needs) else "advice"
    )
    began = time.monotonic()
    found = check.find(seen)
    if found is None:
        result = _result(check, level, "not_run", check.absent, "missing")
    elif isinstance(found, str):
        result = _result(check, level, "passed", found)
    else:
        result = _result(check, level, "failed", found.happened, "environment")
        result.hint = f"{found.cause[:1].upper()}{found.cause[1:]}. Type: {found.type_this}"
    result.seconds = round(time.monotonic() - began, 4)
    return result


def _result(
    check: _Check,
    level: Literal["check", "advice"],
    status: Literal["passed", "failed", "not_run"],
    message: str,
    cause: str | None = None,
) -> CheckResult:
    return CheckResult(
        name=check.name,
        title=check.title,
        level=level,
        evidence="probe",
        status=status,
        cause=cause,
        message=message,
    )


def _engine(seen: Seen) -> Finding:
    found = seen.engine
    if isinstance(found, NoEngine):
        return found if found.installed else None
    how = "rootless, " if found.rootless else ""
    return f"Docker Engine {found.version} ({how}{found.architecture}, cgroup v{found.cgroup})"


def _recent(seen: Seen) -> Finding:
    if isinstance(seen.engine, NoEngine):
        return None
    short = shortfalls(seen.engine)
    return short[0] if short else f"Docker Compose {seen.engine.compose}"


def _driver(seen: Seen) -> Finding:
    if not seen.gpu.card:
        return None
    return gpu.driver_problem(seen.gpu) or f"{seen.gpu.name}, driver {seen.gpu.driver}"


def _toolkit(seen: Seen) -> Finding:
    if not seen.gpu.card or isinstance(seen.engine, NoEngine):
        return None
    wiring = gpu_wiring.wiring(seen.engine, seen.gpu)
    return gpu_wiring.wiring_problem(seen.engine, seen.gpu) or f"by {wiring}"


def _fresh(seen: Seen) -> Finding:
    if not seen.gpu.card or not seen.gpu.specification:
        return None
    return gpu_wiring.stale_problem(seen.gpu) or str(seen.gpu.specification.file)


_CHECKS = (
    _Check(
        "host_engine",
        "A Docker engine answers.",
        ("compose", ""),
        _NO_ENGINE,
        _engine,
    ),
    _Check(
        "host_compose",
        "Engine and Compose are recent enough for the lab's containers.",
        ("compose", ""),
        _NO_ENGINE,
        _recent,
    ),
    _Check(
        "host_driver",
        f"The NVIDIA driver is loaded, and is R{gpu.DRIVER_FLOOR} or newer.",
        ("", "gpu"),
        _NO_GPU,
        _driver,
    ),
    _Check(
        "host_toolkit",
        "Docker can hand the GPU to a container.",
        ("compose", "gpu"),
        f"{_NO_GPU}, or no Docker engine",
        _toolkit,
    ),
    _Check(
        "host_cdi",
        "What the GPU's CDI specification names is there.",
        ("compose", "gpu"),
        "not run: no CDI specification of an NVIDIA GPU",
        _fresh,
    ),
)

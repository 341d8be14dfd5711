"""The client's half of the environment lab: what only the machine shows on which it is typed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from verify.lab import choice
from verify.lab.host_table import CHECKS, Check
from verify.lab.layout import here
from verify.lab.problems import Problem
from verify.lab.view import View
from verify.machine import Advice, as_hint
from verify.results import CheckResult

if TYPE_CHECKING:
    from verify.lab.choice import Seen

_INSIDE = "seen from the host only: type invoke verify --skill environment there"
_NO_NETWORK = "not run: the runner's container has no network, and needs none"


def checks(
    runtime: str = "",
    variant: str = "",
    seen: Seen | None = None,
    sealing: str = "",
    notes: tuple[str, ...] = (),
) -> list[CheckResult]:
    """Return what the client's side shows.

    What the lab needs where it runs now must hold; the rest is advice, so that a driver too old
    for CUDA does not fail a lab that runs on the CPU.

    Args:
        runtime: Where it runs: ``compose``, ``local`` or, not known, empty.
        variant: ``gpu``, ``cpu`` or, not known, empty.
        seen: What the machine has; without it, it is looked at.
        sealing: What the runner says of its walls; not known: empty.
        notes: What it says is missing of them.
    """
    layout = here()
    view = View(seen or choice.look(), layout, runtime, variant, sealing, notes)
    inside = layout.manifest.exists()  # in a container: little of the host is to be seen
    return [_result_of(check, view, inside=inside) for check in CHECKS]


def _result_of(check: Check, view: View, *, inside: bool) -> CheckResult:
    if inside and not check.inside:
        return _result(check, "advice", "not_run", _INSIDE, "missing")
    if inside and check.network and view.layout.holds_keys:
        return _result(check, "advice", "not_run", _NO_NETWORK, "missing")
    return _look(check, view)


def _look(check: Check, view: View) -> CheckResult:
    needs = zip(check.needed_by, (view.runtime, view.variant), strict=True)
    needed = not check.advice and all(need in ("", now) for need, now in needs)
    level: Literal["check", "advice"] = "check" if needed else "advice"
    began = time.monotonic()
    try:
        found = check.find(view)
    except Problem as problem:  # an engine that ended meanwhile, say
        found = problem
    except PermissionError as error:
        why = f"not run: {error.filename} is another user's"
        return _result(check, level, "not_run", why, "missing")
    if found is None:
        result = _result(check, level, "not_run", check.why_not(view), "missing")
    elif isinstance(found, str):
        result = _result(check, level, "passed", found)
    else:
        level = "advice" if isinstance(found, Advice) else level
        result = _result(check, level, "failed", found.happened, "environment")
        result.hint = as_hint(found)
    result.seconds = round(time.monotonic() - began, 4)
    return result


def _result(
    check: Check,
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

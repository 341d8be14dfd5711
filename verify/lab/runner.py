"""The resident runner of the local runtime: started, recognised, replaced when out of date."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from verify import client
from verify.code_hash import code_hash
from verify.lab import damage
from verify.lab.problems import Problem
from verify.lab.processes import Identity, Service, identify
from verify.machine import CACHES

if TYPE_CHECKING:
    from verify.lab.layout import Layout

NAME = "runner"
RUNTIME = "local"

_START_SECONDS = 120.0  # imports of torch and its company from a cold disk
# The runner holds no secret and needs little: what the interpreter and CUDA look at.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", *CACHES)
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "TRITON_", "VERIFY_")


def service(layout: Layout) -> Service:
    """Return the runner as a service."""
    return Service(NAME, layout.record(NAME), layout.log(NAME))


def hello(layout: Layout) -> dict[str, Any] | None:
    """Return what the runner says of itself, or None when nobody answers."""
    try:
        return client.hello(layout.socket)
    except client.NoRunner:
        return None


def is_current(told: dict[str, Any]) -> bool:
    """Return whether a runner that says ``told`` runs the code that is on disk now."""
    return bool(told["code"] == code_hash())


def start(layout: Layout) -> Identity:
    """Start the runner; `wait` for it afterwards."""
    layout.socket.unlink(missing_ok=True)
    command = [str(layout.python), "-I", "-m", "verify.supervisor", "--socket", str(layout.socket)]
    command += ["--labs", str(layout.labs), "--results", str(layout.results)]
    env = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    return service(layout).start([*command, "--runtime", RUNTIME], env, layout.run)


def adopt(layout: Layout, told: dict[str, Any]) -> None:
    """Remember the runner that answers at this lab's socket, whose record was lost."""
    identity = identify(told["pid"])
    if identity is not None:
        service(layout).remember(identity)


def wait(layout: Layout, identity: Identity | None) -> dict[str, Any]:
    """Return what the runner ``identity`` says of itself, as soon as it answers.

    Raises:
        Problem: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + _START_SECONDS
    while (told := hello(layout)) is None:
        if identity is None or service(layout).running() != identity:
            raise _failed(layout, "ended while it started")
        if time.monotonic() > deadline:
            raise _failed(layout, f"gave no answer within {_START_SECONDS:.0f} s")
        time.sleep(0.05)
    return told


def prove(layout: Layout) -> str:
    """Have one verification go round and return what it says; see `round_trip`."""
    return round_trip(layout.socket, NAME, f"; more is in {layout.log(NAME)}")


def round_trip(place: client.Place, service: str, more: str = "") -> str:
    """Have the runner at ``place`` judge a lab's own solution; return what it says.

    Args:
        place: Where the runner answers.
        service: Whose log says more.
        more: What else is told of the cause.

    Raises:
        Problem: it did not end as it must.
    """
    try:
        passed, sentence = client.selftest(place)
    except (client.NoRunner, client.Refused, client.RunnerLost) as error:
        passed, sentence = False, f"the runner gave no verdict: {error}"
    if not passed:
        raise Problem(
            f"The verification round trip failed: {sentence}.",
            cause=f"a fault of this machine or of the lab, not of your work{more}",
            type_this=f"invoke lab.logs --service {service}",
        )
    return sentence


def sealing(told: dict[str, Any]) -> str:
    """Return how the runner seals learner code, in words."""
    return f"sealing {told['sealing']} ({', '.join(told['walls'])})"


def _failed(layout: Layout, how: str) -> Problem:
    if found := damage.find(layout):
        return Problem(
            f"The runner {how}: the lab's environment is not whole: {found}.",
            cause="something was installed over it, or deleted, since lab.up made it",
            type_this=damage.MEND,
        )
    return Problem(
        f"The runner {how}. Its last words:\n  " + "\n  ".join(service(layout).last_lines(5)),
        cause=f"the lines above, or more of them in {layout.log(NAME)}",
        type_this=f"invoke lab.logs --service {NAME}",
    )

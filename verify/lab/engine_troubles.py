"""Why a Docker engine cannot be used from here, or not for the lab's containers."""

from __future__ import annotations

import errno
import re
import shutil
from typing import TYPE_CHECKING, Final

from verify.lab import engine_address
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from verify.lab.engine import Engine

ENGINE_FLOOR: Final = (25, 0)
"""`compose.yaml` uses start_interval, which Compose refuses on an older engine
(https://github.com/docker/compose/pull/11360)."""
COMPOSE_FLOOR: Final = (2, 26)
"""The oldest that the lab was tried with."""

_WITHOUT: Final = "invoke lab.up --runtime local  # needs no Docker"


class NoEngine(Problem):
    """No engine can be used from here.

    Attributes:
        installed: Docker is here, or was pointed to, all the same.
    """

    def __init__(self, happened: str, cause: str, type_this: str, *, installed: bool = True):
        super().__init__(happened, cause=cause, type_this=type_this)
        self.installed = installed


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: ``2.26.1-4`` is (2, 26, 1)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(int(number) for number in found[1].split(".")) if found else ()


def no_answer(error: OSError, address: str) -> NoEngine:
    """Return why nobody answers on the socket at ``address``."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return not_allowed()
    if error.errno == errno.ENOENT and shutil.which("docker") is None:
        return NoEngine(
            "Docker is not installed.",
            "the lab does without; to have it: https://docs.docker.com/engine/install",
            _WITHOUT,
            installed=False,
        )
    return not_running(address)


def not_allowed() -> NoEngine:
    """Return that this user may not talk to the engine."""
    return NoEngine(
        "You may not use the Docker engine of this machine.",
        "its socket is for root and the group docker, and you are not in that group",
        "sudo usermod -aG docker $USER  # then log out and in again",
    )


def not_running(address: str) -> NoEngine:
    """Return that the engine, which should listen at ``address``, does not run."""
    if address == engine_address.DEFAULT:
        return NoEngine(
            "Docker is installed, but its engine does not run.",
            "it was not started, or ended",
            "sudo systemctl start docker  # where Docker Desktop is installed: start that",
        )
    return NoEngine(
        f"No Docker engine answers at {address}.",
        "the engine that DOCKER_HOST or the context in use names does not run",
        "systemctl --user start docker  # rootless; or another one: docker context use default",
    )


def shortfalls(engine: Engine) -> list[Problem]:
    """Return why ``engine`` cannot run the lab's containers; nothing when it can."""
    found: list[Problem] = []
    if engine_address.is_elsewhere(engine.address):
        found.append(elsewhere(engine.address))
    if engine.system != "linux":
        found.append(
            _short("The Docker engine runs Windows containers.", "Docker Desktop was switched")
        )
    if numbers(engine.version) < ENGINE_FLOOR:
        happened = f"Docker Engine {engine.version} is too old: the lab's containers need 25.0."
        found.append(_short(happened, "upgrade it: https://docs.docker.com/engine/install"))
    if engine.compose is None:
        happened = "There is no Docker Compose: `docker compose version` fails."
        where = "Docker's or your distribution's plugin: https://docs.docker.com/compose/install"
        found.append(_short(happened, f"it is a package of its own, {where}"))
    elif numbers(engine.compose) < COMPOSE_FLOOR:
        happened = f"Docker Compose {engine.compose} is too old: the lab needs 2.26."
        found.append(_short(happened, "upgrade it: https://docs.docker.com/compose/install"))
    return found


def _short(happened: str, cause: str) -> Problem:
    return Problem(happened, cause=cause, type_this=_WITHOUT)


def elsewhere(address: str) -> NoEngine:
    """Return why the engine at ``address`` is of no use, however well it is."""
    return NoEngine(
        f"The Docker engine is on another machine ({address}).",
        "DOCKER_HOST or the context in use says so; containers there cannot see your workspace",
        "unset DOCKER_HOST && docker context use default",
    )

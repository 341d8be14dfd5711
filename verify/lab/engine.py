"""The Docker engine: what it says of itself, or why none can be asked."""

from __future__ import annotations

import dataclasses
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from verify.lab import engine_address
from verify.lab.engine_client import asked
from verify.lab.engine_troubles import NoEngine, elsewhere, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

LISTS_DEVICES: Final = (28, 2)
"""From here on CDI is on by default and the engine lists the devices that it knows."""

_SECONDS: Final = 5.0  # for an answer
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclasses.dataclass(frozen=True)
class Engine:
    """What an engine that answers says of itself.

    Attributes:
        address: Where it listens.
        version: Of the engine (``26.1.5+dfsg1``).
        api: The newest version of its interface.
        system: ``linux``, or ``windows`` for one that runs Windows containers.
        architecture: As platforms name it (``amd64``).
        cgroup: ``1`` or ``2``.
        runtimes: The container runtimes it knows, by name.
        cdi_folders: Where it looks for CDI specifications; empty: CDI is off, or unknown to it.
        cdi_devices: The CDI devices it knows; empty too where an old engine does not say.
        security: Its security options, by name (``seccomp``, ``rootless``, ``selinux``).
        warnings: What it complains of itself.
        folder: Where it keeps images and containers on its machine; empty: it does not say.
        compose: Compose's version; None: there is no ``docker compose``.
        buildx: Buildx's version; None: there is none.
    """

    address: str
    version: str
    api: str
    system: str = "linux"
    architecture: str = "amd64"
    cgroup: str = "2"
    runtimes: frozenset[str] = frozenset({"runc"})
    cdi_folders: tuple[str, ...] = ()
    cdi_devices: frozenset[str] = frozenset()
    security: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    folder: str = ""
    compose: str | None = None
    buildx: str | None = None

    @property
    def rootless(self) -> bool:
        """Whether it runs as a user of its own, without root."""
        return "rootless" in self.security

    @property
    def lists_devices(self) -> bool:
        """Whether it would list the CDI devices that it knows."""
        return numbers(self.version) >= LISTS_DEVICES


def look() -> Engine | NoEngine:
    """Return the engine, or why there is none."""
    try:
        return ask(engine_address.find())
    except NoEngine as none:
        return none


def ask(address: str) -> Engine:
    """Return what the engine at ``address`` says.

    Raises:
        NoEngine: none answers there.
    """
    if address.startswith("ssh://"):
        raise elsewhere(address)
    with ThreadPoolExecutor(2) as pool:  # three waits at once
        compose = pool.submit(_printed, ["docker", "compose", "version", "--short"])
        buildx = pool.submit(_printed, ["docker", "buildx", "version"])
        info, version = _asked(address)
    return read(address, info, version, compose.result(), buildx.result())


def read(
    address: str,
    info: dict[str, Any],
    version: dict[str, Any],
    compose: str | None,
    buildx: str | None,
) -> Engine:
    """Return the facts in what was answered and printed.

    Args:
        address: Who answered.
        info: Of ``GET /info`` (https://docs.docker.com/reference/api/engine).
        version: Of ``GET /version``.
        compose: What ``docker compose version --short`` printed; None: it failed.
        buildx: What ``docker buildx version`` printed; None: it failed.
    """
    machine = str(info.get("Architecture", ""))
    options = (dict(_pairs(option)) for option in info.get("SecurityOptions") or ())
    return Engine(
        address=address,
        version=str(version["Version"]),
        api=str(version["ApiVersion"]),
        system=str(info.get("OSType", "linux")),
        architecture=_MACHINES.get(machine, machine),
        cgroup=str(info.get("CgroupVersion") or "1"),
        runtimes=frozenset(info.get("Runtimes") or ()),
        cdi_folders=tuple(info.get("CDISpecDirs") or ()),
        cdi_devices=frozenset(it["ID"] for it in info.get("DiscoveredDevices") or ()),
        security=frozenset(option.get("name", "") for option in options),
        warnings=tuple(info.get("Warnings") or ()),
        folder=str(info.get("DockerRootDir") or ""),
        compose=compose.strip().removeprefix("v") if compose else None,
        buildx=buildx.split()[1].removeprefix("v") if buildx else None,
    )


def _asked(address: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with asked(address, _SECONDS) as client:
        return client.info(), client.version()


def _printed(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 (our own command, no shell)
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _pairs(option: str) -> list[tuple[str, str]]:
    """Return the fields of a security option: ``name=seccomp,profile=builtin``."""
    return [(key, value) for key, _, value in (it.partition("=") for it in option.split(","))]

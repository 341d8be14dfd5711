"""Where the Docker engine listens: what DOCKER_HOST says, else the context in use, as Docker's CLI.

The SDK for Python does not look at contexts, and rootless Docker and Docker Desktop are reached
through one (https://docs.docker.com/engine/manage-resources/contexts/).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT: Final = "unix:///var/run/docker.sock"


def find(environment: Mapping[str, str] = os.environ) -> str:
    """Return the engine's address, as DOCKER_HOST would have it."""
    if host := environment.get("DOCKER_HOST"):
        return host
    folder = Path(environment.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name = environment.get("DOCKER_CONTEXT") or _read(folder / "config.json").get("currentContext")
    if not name or name == "default":
        return DEFAULT
    context = hashlib.sha256(str(name).encode()).hexdigest()
    endpoints = _read(folder / "contexts" / "meta" / context / "meta.json").get("Endpoints") or {}
    return str((endpoints.get("docker") or {}).get("Host") or DEFAULT)


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return ``environment`` for the SDK: with the address that Docker's CLI would use."""
    return {**environment, "DOCKER_HOST": find(environment)}


def socket_of(address: str) -> Path | None:
    """Return the Unix socket that ``address`` names, or None when it names something else."""
    scheme, _, place = address.partition("://")
    return Path(place) if scheme == "unix" else None


def is_elsewhere(address: str) -> bool:
    """Return whether ``address`` is on another machine, whose containers do not see our folders."""
    parts = urlsplit(address)
    if parts.scheme in ("unix", "npipe"):
        return False
    if parts.scheme == "ssh":
        return True
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def knock(path: Path, timeout: float = 2.0) -> None:
    """Connect to the Unix socket ``path`` and let go of it again.

    Raises:
        OSError: nobody listens there, or this user may not ask.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(timeout)
        probe.connect(str(path))


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

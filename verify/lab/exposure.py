"""Who can reach JupyterLab: it is a shell for whoever gets in."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from verify.lab import compose, containers, jupyter, ports
from verify.lab.engine_troubles import NoEngine
from verify.lab.problems import Problem
from verify.machine import Advice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.lab.view import Finding, View

_FORBIDDEN: Final = 403
_ANEW: Final = "invoke lab.down && invoke lab.up"


def jupyterlab(view: View) -> Finding:
    """Return where this lab's JupyterLab listens; what is wrong if others can get in."""
    found = dict(_places(view))
    if not found:
        return None
    open_to = sorted({it for addresses in found.values() for it in addresses if not _is_local(it)})
    if open_to:
        return Problem(
            f"JupyterLab listens on {', '.join(open_to)}: others can reach it.",
            cause="a configuration of Jupyter's or of Compose was changed; the lab's is 127.0.0.1",
            type_this=f"{_ANEW}  # from elsewhere: ssh -L 8888:127.0.0.1:8888 THIS-MACHINE",
        )
    for port in found:
        if jupyter.ask(port, "") not in (_FORBIDDEN, None):
            return Problem(
                f"JupyterLab on port {port} answers without its token: any user of this machine "
                "gets in.",
                cause="a configuration of Jupyter's (in /etc/jupyter?) switches tokens off",
                type_this=_ANEW,
            )
    told = [f"{it}:{port}" for port, addresses in found.items() for it in addresses]
    return f"{', '.join(told)}, with a token"


def others(view: View) -> Finding:
    """Return that no other Jupyter server of this user lets everybody in; `Advice` if one does.

    Each leaves a file that says how it listens: https://jupyter-server.readthedocs.io, "server
    list".
    """
    home = Path(view.environ.get("HOME") or Path.home())
    folder = Path(view.environ.get("JUPYTER_RUNTIME_DIR") or home / ".local/share/jupyter/runtime")
    running = [it for it in map(_record, folder.glob("jpserver-*.json")) if _runs(it)]
    if not running:
        return None
    for it in running:
        kept = it.get("token") or it.get("password")
        if not kept or not _is_local(str(it.get("hostname", ""))):
            how = "lets everybody in" if not kept else f"listens on {it.get('hostname')}"
            return Advice(
                f"Another Jupyter server (process {it['pid']}, port {it.get('port')}) {how}.",
                cause="it was started with --ip=0.0.0.0 or an empty token",
                type_this=f"jupyter server stop {it.get('port')}  # and start it without these",
            )
    return f"{len(running)}, each with a token and for this machine alone"


def _places(view: View) -> Iterator[tuple[int, list[str]]]:
    """Yield each port of JupyterLab with the addresses that it is on."""
    server = jupyter.service(view.layout).running()
    if server is not None and server.port:
        yield server.port, ports.addresses(server.port)
    if view.runtime == "compose" and not isinstance(view.seen.engine, NoEngine):
        container = containers.of(view.layout.root).get(compose.JUPYTER)
        if container is not None:
            yield from _published(container.ports)


def _published(told: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Yield the ports of a container that are to be reached from outside it."""
    for bindings in told.values():
        for it in bindings or ():
            yield int(it["HostPort"]), [it.get("HostIp") or "0.0.0.0"]  # noqa: S104 - a reading


def _is_local(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _record(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _runs(told: dict[str, Any]) -> bool:
    return isinstance(told.get("pid"), int) and Path("/proc", str(told["pid"])).exists()

"""JupyterLab on 127.0.0.1: behind a token, with a configuration of its own, in the workspace."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from verify.lab import ports
from verify.lab.problems import Problem
from verify.lab.processes import Identity, Service, identify
from verify.lab.workspace import START_PAGE

if TYPE_CHECKING:
    from verify.lab.layout import Layout

ADDRESS = "127.0.0.1"
PORT = 8888
NAME = "jupyter"

_START_SECONDS = 90.0
_ANSWER_SECONDS = 3.0
_OK, _FORBIDDEN = 200, 403

# A lesson opens as a page and an exercise as a notebook; nothing asks the network for news.
# What is verified is what is saved, so saving does not wait for the usual two minutes.
_OVERRIDES = {
    "@jupyterlab/docmanager-extension:plugin": {
        "defaultViewers": {"markdown": "Markdown Preview", "python": "Jupytext Notebook"},
        "autosaveInterval": 10,
    },
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}

# A terminal begins in this file: the person's own .bashrc may put other Pythons first.
_BASHRC = """\
[ -f ~/.bashrc ] && . ~/.bashrc
id -un >/dev/null 2>&1 || PS1='\\w\\$ '
export VIRTUAL_ENV={venv}
PATH={bin}:$PATH
"""


def service(layout: Layout) -> Service:
    """Return JupyterLab as a service."""
    return Service(NAME, layout.record(NAME), layout.log(NAME))


def start(layout: Layout, port: int) -> Identity:
    """Start JupyterLab; `wait` for it afterwards.

    Raises:
        Problem: the port is somebody else's.
    """
    if not ports.is_free(port):
        raise ports.in_use(port)
    prepare(layout)
    # A terminal opens in the folder that the server was started in.
    return service(layout).start(command(layout, port), environment(layout), layout.workspace, port)


def prepare(layout: Layout) -> None:
    """Draw the token and write the configuration."""
    token(layout)
    _configure(layout)


def adopt(layout: Layout, port: int) -> Identity | None:
    """Return the JupyterLab on ``port`` if it is this lab's own, whose record was lost."""
    who = ports.listener(port)
    identity = identify(who.pid, port) if who else None
    if identity is None or Path(f"/proc/{identity.pid}").stat().st_uid != os.geteuid():
        return None
    if not layout.token.exists() or not answers(layout, identity):
        return None
    service(layout).remember(identity)
    return identity


def wait(layout: Layout, identity: Identity | None) -> Identity:
    """Return ``identity`` when that JupyterLab answers with the token and refuses without.

    Raises:
        Problem: it ended, did not answer in time, or lets everybody in.
    """
    deadline = time.monotonic() + _START_SECONDS
    while identity is None or not answers(layout, identity):
        if identity is None or service(layout).running() != identity:
            raise _failed(layout, "ended while it started")
        if time.monotonic() > deadline:
            raise _failed(layout, f"gave no answer within {_START_SECONDS:.0f} s")
        time.sleep(0.1)
    if (status := ask(identity.port, "")) != _FORBIDDEN:
        service(layout).stop()
        raise Problem(
            f"JupyterLab answers {status} to somebody without the token: it was stopped.",
            cause="a jupyter configuration of this machine (in /etc/jupyter?) switches tokens off",
            type_this=f"{layout.venv}/bin/jupyter --paths  # shows where such a file can be",
        )
    return identity


def answers(layout: Layout, identity: Identity) -> bool:
    """Return whether the process ``identity`` serves its port and accepts this lab's token.

    The token is told to that process alone, never to another that has the port.
    """
    if not ports.listens(identity.pid, identity.port):
        return False
    with contextlib.suppress(OSError):
        return ask(identity.port, layout.token.read_text()) == _OK
    return False


def ask(port: int, key: str) -> int | None:
    """Return the status of a request to ``/api/status`` with token ``key``, None for no answer."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=_ANSWER_SECONDS)
    headers = {"Authorization": f"token {key}"} if key else {}
    try:
        connection.request("GET", "/api/status", headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def url(port: int, key: str = "") -> str:
    """Return the address of the start page, with the token where it is given."""
    page = f"http://{ADDRESS}:{port}/lab/tree/{START_PAGE}"
    return f"{page}?token={key}" if key else page


def token(layout: Layout) -> str:
    """Return the token; the first call draws it."""
    with contextlib.suppress(OSError):
        if known := layout.token.read_text():
            return known
    drawn = secrets.token_urlsafe(24)
    layout.token.unlink(missing_ok=True)
    descriptor = os.open(layout.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:  # noqa: PTH123 (a descriptor: its mode was set at birth)
        file.write(drawn)
    return drawn


def runs_as_root() -> bool:
    """Return whether JupyterLab is root's: it is whoever brings the lab up."""
    return os.geteuid() == 0


def command(layout: Layout, port: int, address: str = ADDRESS) -> list[str]:
    """Return the command line: what decides who gets in stands here, where `ps` shows it."""
    options = {
        "ServerApp.ip": address,
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.allow_unauthenticated_access": False,
        "ServerApp.allow_remote_access": False,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": runs_as_root(),
        "ServerApp.root_dir": layout.workspace,
        "LabApp.default_url": f"/lab/tree/{START_PAGE}",
    }
    told = [f"--{name}={value}" for name, value in options.items()]
    return [str(layout.python), "-I", "-m", "jupyterlab", *told]


def environment(layout: Layout) -> dict[str, str]:
    """Return JupyterLab's environment: the person's own, but for other Jupyters and Pythons."""
    foreign = ("JUPYTER", "IPYTHON", "PYTHON", "CONDA", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return env | {
        "PATH": f"{layout.venv / 'bin'}:{env.get('PATH', os.defpath)}",
        "VIRTUAL_ENV": str(layout.venv),
        "JUPYTER_TOKEN_FILE": str(layout.token),  # not on the command line: `ps` shows that to all
        "JUPYTER_CONFIG_DIR": str(layout.jupyter / "config"),
        "JUPYTER_DATA_DIR": str(layout.jupyter / "data"),
        "JUPYTER_RUNTIME_DIR": str(layout.jupyter / "runtime"),
        "IPYTHONDIR": str(layout.jupyter / "ipython"),
    }


def _configure(layout: Layout) -> None:
    """Write JupyterLab's configuration."""
    bashrc = layout.jupyter / "bashrc"
    paths = {"venv": shlex.quote(str(layout.venv)), "bin": shlex.quote(str(layout.venv / "bin"))}
    bashrc.write_text(_BASHRC.format(**paths))
    settings = {
        "ServerApp": {"terminado_settings": {"shell_command": ["bash", "--rcfile", str(bashrc)]}},
        "LabApp": {
            "news_url": None,
            "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            "extension_manager": "readonly",
        },
    }
    config = layout.jupyter / "config"
    (config / "labconfig").mkdir(parents=True, exist_ok=True)
    (config / "jupyter_server_config.json").write_text(json.dumps(settings, indent=2))
    overrides = config / "labconfig" / "default_setting_overrides.json"
    overrides.write_text(json.dumps(_OVERRIDES, indent=2))


def _failed(layout: Layout, how: str) -> Problem:
    return Problem(
        f"JupyterLab {how}. Its last words:\n  " + "\n  ".join(service(layout).last_lines(5)),
        cause=f"the lines above, or more of them in {layout.log(NAME)}",
        type_this=f"invoke lab.logs --service {NAME}",
    )

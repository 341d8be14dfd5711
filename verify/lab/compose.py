"""The lab as two containers, by Compose's command line: up, down, what its failures mean."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from verify import client
from verify.lab import containers, jupyter, ports, runner, toolkit_errors
from verify.lab.following import following
from verify.lab.layout import InImage
from verify.lab.problems import Problem
from verify.lab.reports import Report, Row

if TYPE_CHECKING:
    from verify.lab.layout import Layout
    from verify.lab.steps import Steps

JUPYTER, RUNNER = "jupyter", "verifier"
_WELL: Final = "running, healthy"
PROJECT: Final = "finetune-lab"  # as compose.yaml names it, unless COMPOSE_PROJECT_NAME does

OVERLAYS: Final = {
    None: [],
    "runtime": ["images/gpu/compose.yaml", "images/gpu/compose.runtime.yaml"],
    "cdi": ["images/gpu/compose.yaml", "images/gpu/compose.cdi.yaml"],
}
_WRITTEN: Final = (
    "# Written by `invoke lab.up`, for `docker compose` by hand; delete this line to keep yours.\n"
)
_KEPT: Final = (
    "LAB_IMAGE",
    "LAB_JUPYTER_MEMORY",
    "LAB_VERIFIER_MEMORY",
    "COMPOSE_PROJECT_NAME",
)
_WAIT: Final = 300  # seconds for both services to be well: imports from a cold disk


def settings(layout: Layout, variant: str, wiring: str | None, port: int) -> dict[str, str]:
    """Return the variables that `compose.yaml` is given.

    The containers run as the owner of the workspace: that is whose files they are. What the
    person has set, now or in an earlier `lab.up`, stays.
    """
    owner = layout.workspace.stat()
    kept = _read(layout) | {name: os.environ[name] for name in _KEPT if os.environ.get(name)}
    chosen = {
        "LAB_VARIANT": variant,
        "LAB_UID": str(owner.st_uid),
        "LAB_GID": str(owner.st_gid),
        "LAB_PORT": str(port),
    }
    if OVERLAYS[wiring]:  # Compose finds compose.yaml by itself, from any folder
        files = ["compose.yaml", *OVERLAYS[wiring]]
        chosen["COMPOSE_FILE"] = os.pathsep.join(str(layout.root / file) for file in files)
    return {name: value for name, value in kept.items() if name in _KEPT} | chosen


def write_settings(layout: Layout, chosen: dict[str, str]) -> None:
    """Write ``chosen`` to .env, where Compose looks by itself; somebody else's .env stays."""
    file = layout.root / ".env"
    if file.exists() and not file.read_text("utf-8", "replace").startswith(_WRITTEN):
        return
    lines = [f"{name}={value}\n" for name, value in chosen.items()]
    file.write_text("".join([_WRITTEN, *lines]))


def last_port(layout: Layout) -> int | None:
    """Return the port of the last `lab.up` in containers."""
    port = _read(layout).get("LAB_PORT", "")
    return int(port) if port.isdecimal() else None


def _read(layout: Layout) -> dict[str, str]:
    """Return the settings that `write_settings` wrote."""
    try:
        text = (layout.root / ".env").read_text("utf-8", "replace")
    except OSError:
        return {}
    rows = (line.partition("=") for line in text.splitlines() if text.startswith(_WRITTEN))
    return {name: value for name, equals, value in rows if equals}


def up(layout: Layout, steps: Steps, chosen: dict[str, str]) -> None:
    """Start both services, or what of them is down or out of date; return when both are well.

    Raises:
        Problem: they do not come up; the message is that of the cause.
    """
    other = containers.elsewhere(_project(), layout.root)
    if other:
        raise Problem(
            f"The lab in {other} has the containers' names already.",
            cause="two copies of the project on one engine need two names",
            type_this=f"cd {other} && invoke lab.down  # or set COMPOSE_PROJECT_NAME",
        )
    code, output = _compose(layout, chosen, "up", "--detach", "--wait", f"--wait-timeout={_WAIT}")
    if code:
        raise _failed(layout, steps, output)


def down(layout: Layout, steps: Steps) -> bool:
    """Stop and remove the containers; volumes stay. Return whether there were any."""
    if not containers.of(layout.root):
        return False
    with steps.step("Stopping the containers") as step:
        code, output = _compose(layout, {}, "down")
        if code:
            raise _failed(layout, steps, output)
        step.done = "Containers: stopped and removed; results and settings are kept in volumes"
    return True


def port_of(container: Any) -> int | None:
    """Return the port of 127.0.0.1 that JupyterLab's container is published on."""
    published = (container.ports or {}).get("8888/tcp") or []
    return int(published[0]["HostPort"]) if published else None


def health(container: Any) -> str:
    """Return how a container is, in a word or two."""
    state = container.attrs["State"]
    told = (state.get("Health") or {}).get("Status")
    return f"{state['Status']}, {told}" if told else str(state["Status"])


def token(container: Any) -> str:
    """Return JupyterLab's token.

    Raises:
        Problem: its file, which the learner may write, holds something else.
    """
    told = containers.run_in(container, "python", "-I", "-m", "verify.lab.container", "token")
    if not re.fullmatch(r"[A-Za-z0-9_-]{20,64}", told):
        raise Problem(
            "JupyterLab's token is not one that was drawn here.",
            cause="its file in the container's home was changed",
            type_this="docker compose down --volumes && invoke lab.up  # results go too",
        )
    return told


def require_port(layout: Layout, port: int) -> None:
    """Raise a `Problem` if somebody else has ``port``."""
    running = containers.of(layout.root).get(JUPYTER)
    if (running is None or port_of(running) != port) and not ports.is_free(port):
        raise ports.in_use(port)


def prove_jupyter(layout: Layout, port: int) -> tuple[str, str]:
    """Return the token and a sentence, after JupyterLab took it and refused to do without.

    Raises:
        Problem: it did not.
    """
    key = token(containers.of(layout.root)[JUPYTER])
    with_it, without = jupyter.ask(port, key), jupyter.ask(port, "")
    if (with_it, without) != (200, 403):
        raise Problem(
            f"JupyterLab answers {with_it} with its token and {without} without; 200 and 403 are "
            "right.",
            cause="another program answers on that port, or the container is unwell",
            type_this="invoke lab.logs --service jupyter",
        )
    return key, f"on {jupyter.ADDRESS}:{port}; answers with the token, refuses without"


def prove_runner(layout: Layout) -> str:
    """Have one verification go round and return what it says.

    Raises:
        Problem: it did not end as it must.
    """
    find_runner(layout)
    return runner.round_trip(layout.runners["compose"], RUNNER)


def find_runner(layout: Layout) -> None:
    """See that `Layout.runners` says how the container's runner is reached from here.

    By its socket; or, where that does not cross from the engine's machine to this one (Docker
    Desktop), by a command in its container.
    """
    layout.carrier.unlink(missing_ok=True)
    with contextlib.suppress(client.NoRunner):
        client.hello(layout.runners["compose"])
        return
    inside = InImage(layout.root).socket
    command = ["docker", "exec", "--interactive", containers.of(layout.root)[RUNNER].name]
    command += ["python", "-I", "-m", "verify.relay", str(inside)]
    layout.carrier.write_text(json.dumps(command))


def report(layout: Layout, found: dict[str, Any]) -> Report:
    """Return what runs in the containers ``found``."""
    rows = []
    for service, container in sorted(found.items()):
        port = port_of(container)
        where = jupyter.url(port) if port else ""
        rows.append(Row(service, health(container), where, container.name))
    link, server = None, found.get(JUPYTER)
    if {row.state for row in rows} == {_WELL} and server is not None and len(rows) > 1:
        link = functools.partial(_link, server)
    try:
        told = client.hello(layout.runners["compose"])
    except client.NoRunner:
        told = None
    return Report("compose", rows, link, told)


def _link(server: Any) -> str:
    return jupyter.url(port_of(server) or jupyter.PORT, token(server))


def logs(layout: Layout, service: str | None, lines: str, *, follow: bool) -> None:
    """Print the containers' logs as Compose does."""
    ansi = "auto" if sys.stdout.isatty() else "never"
    command = [
        "docker",
        "compose",
        "--ansi",
        ansi,
        "logs",
        "--tail",
        lines,
        *(["--follow"] if follow else []),
    ]
    command += [service] if service else []
    subprocess.run(command, cwd=layout.root, check=False)  # noqa: S603


def _project() -> str:
    return os.environ.get("COMPOSE_PROJECT_NAME") or PROJECT


def _compose(layout: Layout, chosen: dict[str, str], *words: str) -> tuple[int, str]:
    """Run ``docker compose``; return its exit code and all it printed, which is in the log too."""
    if shutil.which("docker") is None:
        raise Problem(
            "The docker command is not installed.",
            cause="an engine answers, but Compose is a part of its command line",
            type_this="invoke lab.up --runtime local  # needs no Docker",
        )
    command = ["docker", "compose", "--progress", "plain", *words]
    told = []
    with (
        following(command, os.environ | chosen, folder=layout.root) as process,
        layout.log("compose").open("a", encoding="utf-8") as log,
    ):
        log.write(f"\n# {shlex.join(command)}\n")
        for line in process.lines():
            if line is not None:
                log.write(line)
                told.append(line)
        return process.wait(), "".join(told)


def _failed(layout: Layout, steps: Steps, output: str) -> Problem:
    if known := toolkit_errors.diagnose(output):
        return known
    for service, container in containers.of(layout.root).items():
        if health(container) not in (_WELL, "created"):
            words = container.logs(tail=5).decode(errors="replace").strip()
            return Problem(
                f"The {service} container is {health(container)}. Its last words:\n  "
                + words.replace("\n", "\n  "),
                cause=f"the lines above, or more of them in {layout.log('compose')}",
                type_this=f"invoke lab.logs --service {service}",
            )
    steps.say(output.strip())
    return Problem(
        "Compose failed; its words stand above.",
        cause=f"they are in {layout.log('compose')} too",
        type_this="docker compose ps --all",
    )

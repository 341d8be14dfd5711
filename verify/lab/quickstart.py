"""`invoke quickstart`: the first fine-tune, in whichever runtime serves here."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from verify.lab import assets, compose, containers, environment, local
from verify.lab.layout import InImage
from verify.lab.problems import Misuse, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verify.lab.layout import Layout
    from verify.lab.steps import Steps

PATHS: Final = ("model", "data", "output")
"""Flags that name a place on the machine where they are typed."""

_PROGRAM: Final = ("-I", "-m", "labs.quickstart")
_HANDED_ON: Final = ("HF_HUB_OFFLINE", "HF_TOKEN", "NO_COLOR")
_HUB: Final = re.compile(r"[\w.-]+/[\w.-]+")


def run(layout: Layout, steps: Steps, flags: dict[str, str], switches: Sequence[str] = ()) -> int:
    """Run the quickstart with ``flags`` (by name) and ``switches``; return its exit code.

    Raises:
        Misuse: a path that the lab's container does not see.
        Problem: there is no environment and none can be made, or the run was killed.
    """
    if isinstance(layout, InImage):
        return _as_process(layout.python, _words(flags, switches))
    container = _container(layout)
    if container is not None:
        steps.say(f"In the lab's container {container.name}:")
        return _in_container(container, _words(_inside(layout, flags), switches))
    _prepare(layout, steps, flags)
    return _as_process(layout.python, _words(flags, switches))


def _words(flags: dict[str, str], switches: Sequence[str]) -> list[str]:
    return [*(f"--{name}={value}" for name, value in flags.items()), *switches]


def _container(layout: Layout) -> Any:
    """Return JupyterLab's container if the lab is up in containers, else None."""
    try:
        found = containers.of(layout.root).get(compose.JUPYTER)
    except Problem:  # no engine: then there is no container either
        return None
    return found if found is not None and found.status == "running" else None


def _prepare(layout: Layout, steps: Steps, flags: dict[str, str]) -> None:
    """Make the local environment, and the lab's own model and data, where they are not there."""
    layout.prepare()
    with local.alone(layout, steps):
        if not environment.is_ready(layout):
            local.make_environment(layout, steps)
        brought = "LAB_ASSETS" in os.environ or layout.assets.is_dir()
        if not (brought or {"model", "data"} <= flags.keys()):
            assets.make(layout, steps)


def _as_process(python: Path, words: Sequence[str]) -> int:
    """Run the program on this machine. Ctrl-C reaches it once, by way of us."""
    return _followed([str(python), *_PROGRAM, *words], lambda it: it.send_signal(signal.SIGINT))


def _in_container(container: Any, words: Sequence[str]) -> int:
    """Run the program in a running container.

    On a terminal Docker hands every key on, Ctrl-C too. Elsewhere it would leave the program
    running and only stop to listen, so the program's number is kept, to be told by.
    """
    docker = shutil.which("docker")
    if docker is None:
        raise Problem(
            "The docker command is not installed.",
            cause="the lab runs in containers, which are entered by it",
            type_this="invoke quickstart  # in JupyterLab's terminal",
        )
    known = [part for name in _HANDED_ON if name in os.environ for part in ("--env", name)]
    program = ["python", *_PROGRAM, *words]
    if sys.stdin.isatty() and sys.stdout.isatty():
        command = [docker, "exec", "-it", *known, container.name, *program]
        return subprocess.run(command, check=False).returncode  # noqa: S603
    number = f"/tmp/quickstart.{secrets.token_hex(8)}"  # noqa: S108 - of the container
    kept = ["sh", "-c", 'echo $$ >"$1" && shift && exec "$@"', "sh", number]
    tell = ["sh", "-c", 'kill -INT "$(cat "$1")"', "sh", number]

    def interrupt(_: subprocess.Popen[bytes]) -> None:
        subprocess.run([docker, "exec", container.name, *tell], check=False)  # noqa: S603

    return _followed([docker, "exec", *known, container.name, *kept, *program], interrupt)


def _followed(command: list[str], interrupt: Callable[[subprocess.Popen[bytes]], None]) -> int:
    """Run ``command`` until it ends by itself; on Ctrl-C ``interrupt`` it, and go on waiting."""
    sys.stdout.flush()
    # In a session of its own it does not get a terminal's Ctrl-C besides.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:  # noqa: S603
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                interrupt(process)
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        raise Problem(
            "The run was killed.",
            cause="main memory ran out, and the system ended what had the most of it",
            type_this="the same with half the --batch; the last checkpoint is kept",
        )
    return code if code >= 0 else 128 - code


def _inside(layout: Layout, flags: dict[str, str]) -> dict[str, str]:
    """Return the flags with the host's paths as the container sees them."""
    return {
        name: _path(layout, name, value) if name in PATHS else value
        for name, value in flags.items()
    }


def _path(layout: Layout, name: str, value: str) -> str:
    place = Path(value).expanduser().resolve()
    if name == "model" and not place.exists() and _HUB.fullmatch(value):
        return value  # of the hub
    home = layout.workspace.resolve()
    if not place.is_relative_to(home):
        raise Misuse(
            f"The lab's container does not see {place}: of this machine it sees {home} alone.",
            cause="the lab is up in containers, and --" + name + " names a place outside of it",
            type_this=f"cp -r {value} {home}/ && invoke quickstart --{name} {home / place.name}"
            if name != "output"
            else f"invoke quickstart --output {home / place.name}",
        )
    return str(InImage(layout.root).workspace / place.relative_to(home))

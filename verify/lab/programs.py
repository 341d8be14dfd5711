"""Runs a program of the labs, as the quickstart is one, in whichever runtime serves here."""

from __future__ import annotations

import dataclasses
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

HANDED_ON: Final = ("HF_HUB_OFFLINE", "HF_TOKEN", "NO_COLOR")
"""What a container is told of the environment where the command is typed."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A module of the labs that is run as a program.

    Attributes:
        module: Its name.
        command: The task that runs it.
        inputs: Flags that name a place on the machine where they are typed, to be read.
        output: The flag that names a place to be written.
        bundled: Flags whose default is something that the lab brings along.
        name: What a model's name looks like that is no place.
        smaller: What to type when the system killed it.
    """

    module: str
    command: str
    inputs: tuple[str, ...]
    output: str
    bundled: frozenset[str]
    name: re.Pattern[str]
    smaller: str


def run(
    program: Program,
    layout: Layout,
    steps: Steps,
    flags: dict[str, str],
    switches: Sequence[str] = (),
) -> int:
    """Run ``program`` with ``flags`` (by name) and ``switches``; return its exit code.

    Raises:
        Misuse: a path that the lab's container does not see.
        Problem: there is no environment and none can be made, or the run was killed.
    """
    if isinstance(layout, InImage):
        return _as_process(layout.python, _words(program, flags, switches), program)
    container = _container(layout)
    if container is not None:
        steps.say(f"In the lab's container {container.name}:")
        words = _words(program, _inside(program, layout, flags), switches)
        return _in_container(container, words, program)
    _prepare(layout, steps, program.bundled <= flags.keys())
    return _as_process(layout.python, _words(program, flags, switches), program)


def _words(program: Program, flags: dict[str, str], switches: Sequence[str]) -> list[str]:
    given = (f"--{name}={value}" for name, value in flags.items())
    return ["-I", "-m", program.module, *given, *switches]


def _container(layout: Layout) -> Any:
    """Return JupyterLab's container if the lab is up in containers, else None."""
    try:
        found = containers.of(layout.root).get(compose.JUPYTER)
    except Problem:  # no engine: then there is no container either
        return None
    return found if found is not None and found.status == "running" else None


def _prepare(layout: Layout, steps: Steps, everything_given: bool) -> None:
    """Make the local environment, and the lab's own model and data, where they are not there."""
    layout.prepare()
    with local.alone(layout, steps):
        if not environment.is_ready(layout):
            local.make_environment(layout, steps)
        brought = "LAB_ASSETS" in os.environ or layout.assets.is_dir()
        if not (brought or everything_given):
            assets.make(layout, steps)


def _as_process(python: Path, words: Sequence[str], program: Program) -> int:
    """Run the program on this machine. Ctrl-C reaches it once, by way of us."""
    command = [str(python), *words]
    return _followed(command, lambda it: it.send_signal(signal.SIGINT), program)


def _in_container(container: Any, words: Sequence[str], program: Program) -> int:
    """Run the program in a running container.

    On a terminal Docker hands every key on, Ctrl-C too. Elsewhere it would leave the program
    running and only stop to listen, so the program's number is kept, to be told by.
    """
    docker = shutil.which("docker")
    if docker is None:
        raise Problem(
            "The docker command is not installed.",
            cause="the lab runs in containers, which are entered by it",
            type_this=f"invoke {program.command}  # in JupyterLab's terminal",
        )
    known = [part for name in HANDED_ON if name in os.environ for part in ("--env", name)]
    if sys.stdin.isatty() and sys.stdout.isatty():
        command = [docker, "exec", "-it", *known, container.name, "python", *words]
        return subprocess.run(command, check=False).returncode  # noqa: S603
    number = f"/tmp/lab-program.{secrets.token_hex(8)}"  # noqa: S108 - of the container
    kept = ["sh", "-c", 'echo $$ >"$1" && shift && exec "$@"', "sh", number]
    tell = ["sh", "-c", 'kill -INT "$(cat "$1")"', "sh", number]

    def interrupt(_: subprocess.Popen[bytes]) -> None:
        subprocess.run([docker, "exec", container.name, *tell], check=False)  # noqa: S603

    command = [docker, "exec", *known, container.name, *kept, "python", *words]
    return _followed(command, interrupt, program)


def _followed(
    command: list[str], interrupt: Callable[[subprocess.Popen[bytes]], None], program: Program
) -> int:
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
            type_this=program.smaller,
        )
    return code if code >= 0 else 128 - code


def _inside(program: Program, layout: Layout, flags: dict[str, str]) -> dict[str, str]:
    """Return the flags with the host's paths as the container sees them."""
    paths = (*program.inputs, program.output)
    return {
        name: _path(program, layout, name, value) if name in paths else value
        for name, value in flags.items()
    }


def _path(program: Program, layout: Layout, name: str, value: str) -> str:
    place = Path(value).expanduser().resolve()
    if name == "model" and not place.exists() and program.name.fullmatch(value):
        return value
    home = layout.workspace.resolve()
    if not place.is_relative_to(home):
        again = f"invoke {program.command} --{name} {home / place.name}"
        raise Misuse(
            f"The lab's container does not see {place}: of this machine it sees {home} alone.",
            cause="the lab is up in containers, and --" + name + " names a place outside of it",
            type_this=again if name == program.output else f"cp -r {value} {home}/ && {again}",
        )
    return str(InImage(layout.root).workspace / place.relative_to(home))

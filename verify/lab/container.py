"""What the two containers of `compose.yaml` run, and how the engine asks whether they are well.

``python -I -m verify.lab.container jupyter|runner|token`` and ``... health jupyter|runner``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from verify import client
from verify.lab import jupyter, layout, workspace
from verify.lab.problems import ENVIRONMENT_FAULT, WRONG_USAGE, Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verify.lab.layout import Layout

PORT: Final = 8888
RUNTIME: Final = "compose"
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - of the container; it is published on 127.0.0.1 only
_OK: Final = 200


def run_jupyter(here: Layout) -> None:
    """Fill the workspace, then become JupyterLab.

    Raises:
        Problem: the workspace is another user's.
    """
    _require_own(here.workspace)
    here.prepare()
    workspace.fill(here)
    jupyter.prepare(here)
    os.chdir(here.workspace)  # a terminal opens where the server was started
    environment = jupyter.environment(here) | {"HOME": str(here.state)}
    os.execve(here.python, jupyter.command(here, PORT, _EVERYWHERE), environment)  # noqa: S606


def run_runner(here: Layout) -> None:
    """Become the runner."""
    command = [str(here.python), "-I", "-m", "verify.supervisor", "--socket", str(here.socket)]
    command += ["--labs", str(here.labs), "--results", str(here.results), "--runtime", RUNTIME]
    os.execv(here.python, command)  # noqa: S606


def show_token(here: Layout) -> None:
    """Print JupyterLab's token, for whoever brought the lab up."""
    sys.stdout.write(here.token.read_text())


def is_jupyter_well(here: Layout) -> bool:
    """Return whether JupyterLab answers to its token."""
    return jupyter.ask(PORT, here.token.read_text()) == _OK


def is_runner_well(here: Layout) -> bool:
    """Return whether the runner answers."""
    try:
        return bool(client.hello(here.socket))
    except client.NoRunner:
        return False


_COMMANDS: Final[dict[tuple[str, ...], Callable[[Layout], bool | None]]] = {
    ("jupyter",): run_jupyter,
    ("runner",): run_runner,
    ("token",): show_token,
    ("health", "jupyter"): is_jupyter_well,
    ("health", "runner"): is_runner_well,
}


def main(words: list[str]) -> int:
    """Do what ``words`` say; return the exit code."""
    command = _COMMANDS.get(tuple(words))
    if command is None:
        sys.stderr.write(f"{__doc__}\n")
        return WRONG_USAGE
    try:
        answer = command(layout.here())
    except Problem as problem:
        sys.stderr.write("\n".join(problem.lines()) + "\n")
        return problem.code
    return ENVIRONMENT_FAULT if answer is False else 0


def _require_own(folder: Path) -> None:
    if os.access(folder, os.W_OK):
        return
    owner, group = folder.stat().st_uid, folder.stat().st_gid
    raise Problem(
        f"The folder workspace/ belongs to user {owner}, and this container runs as user "
        f"{os.geteuid()}: your work could not be saved.",
        cause="Compose was started by hand and not told whose the workspace is",
        type_this=f"LAB_UID={owner} LAB_GID={group} docker compose up --wait",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

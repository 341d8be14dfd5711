"""The lab as processes of this machine: up, down, status. Read it as a table of contents."""

from __future__ import annotations

import contextlib
import fcntl
from typing import TYPE_CHECKING

from rich.table import Table

from verify.lab import environment, jupyter, runner, workspace
from verify.lab.problems import ENVIRONMENT_FAULT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.lab.layout import Layout
    from verify.lab.processes import Identity
    from verify.lab.steps import Steps

_CHOSEN = (
    "Runtime: local (JupyterLab and the runner are processes of this machine; "
    "containers are not used by this version)"
)
_TOKEN_IS_A_KEY = "Open this in a browser on this machine (the token in it is a key: keep it):"  # noqa: S105


def up(layout: Layout, steps: Steps, port: int | None = None) -> None:
    """Bring the lab up, or only what of it is down; return when it has proved that it works.

    What fails half-way stops what this call started and leaves the rest as it was.

    Args:
        layout: Which lab.
        steps: Where to say what is done.
        port: JupyterLab's port; None for the usual one.

    Raises:
        Problem: the lab cannot come up.
    """
    layout.prepare()
    with _alone(layout, steps), contextlib.ExitStack() as undo:
        steps.say(_CHOSEN)
        _make_environment(layout, steps)
        with steps.step("Workspace") as step:
            step.done = workspace.fill(layout)
        new_server = _start_jupyter(layout, steps, port, undo)
        new_runner = _start_runner(layout, undo)
        _wait_for_runner(layout, steps, new_runner)
        server = _wait_for_jupyter(layout, steps, new_server)
        with steps.step("Verification round trip") as step:
            step.done = f"Verification round trip: {runner.prove(layout)}"
        undo.pop_all()
    steps.say(_TOKEN_IS_A_KEY)
    steps.say(jupyter.url(server.port, jupyter.token(layout)))


def down(layout: Layout, steps: Steps) -> None:
    """Stop what runs; files stay. JupyterLab last: this may be typed in its terminal."""
    if not layout.run.exists():
        steps.say("Nothing of the lab runs.")
        return
    with _alone(layout, steps):
        if (told := runner.hello(layout)) and not runner.service(layout).running():
            runner.adopt(layout, told)
        stopped = False
        for name, service in (
            ("Runner", runner.service(layout)),
            ("JupyterLab", jupyter.service(layout)),
        ):
            if service.running():
                with steps.step(f"Stopping {name}") as step:
                    service.stop()
                    step.done = f"{name}: stopped"
                stopped = True
        layout.socket.unlink(missing_ok=True)
    steps.say("Your files and results are kept." if stopped else "Nothing of the lab runs.")


def status(layout: Layout, steps: Steps, *, with_token: bool = False) -> int:
    """Show what runs; return 0 when all of the lab does, else 3."""
    server, told = jupyter.service(layout).running(), runner.hello(layout)
    server_answers = server is not None and jupyter.answers(layout, server)
    table = Table("", "state", "where", "process", box=None, pad_edge=False)
    table.add_row(
        "JupyterLab",
        _state(there=server is not None, answers=server_answers),
        jupyter.url(server.port) if server else "",
        str(server.pid) if server else "",
    )
    process = runner.service(layout).running()
    table.add_row(
        "Runner",
        _state(there=process is not None, answers=told is not None),
        str(layout.socket) if told else "",
        str(told["pid"]) if told else "",
    )
    steps.console.print(table, highlight=False, soft_wrap=True)
    ready = "ready" if environment.is_ready(layout) else "missing, unfinished or out of date"
    steps.say(f"Environment: {ready} ({layout.venv})")
    if told:
        steps.say(f"Learner code: {runner.sealing(told)}")
    steps.say(f"Workspace:   {layout.workspace}")
    steps.say(f"Results:     {layout.results}")
    if told and not runner.is_current(told):
        steps.say("The runner runs older code than is on disk. Type: invoke lab.up")
    if not (server_answers and told):
        steps.say("Type: invoke lab.up")
        return ENVIRONMENT_FAULT
    if with_token and server:
        steps.say(jupyter.url(server.port, jupyter.token(layout)))
    else:
        steps.say("The link with its token: invoke lab.status --url")
    return 0


def _make_environment(layout: Layout, steps: Steps) -> None:
    """Make the environment; what runs on an old one is stopped first."""
    if environment.is_ready(layout):
        steps.ticked(environment.make(layout, steps))
        return
    for service in (runner.service(layout), jupyter.service(layout)):
        if service.stop():
            steps.say(f"The {service.name} was stopped: the libraries it runs on change.")
    steps.say("Making the lab's environment; the first time takes some minutes:")
    with steps.timed() as done:
        done(environment.make(layout, steps))


def _start_runner(layout: Layout, undo: contextlib.ExitStack) -> Identity | None:
    """Start the runner unless one of today's code answers; return it if it was started."""
    service, told = runner.service(layout), runner.hello(layout)
    if told and not service.running():
        runner.adopt(layout, told)
    if told and runner.is_current(told):
        return None
    service.stop()
    undo.callback(service.stop)
    return runner.start(layout)


def _wait_for_runner(layout: Layout, steps: Steps, started: Identity | None) -> None:
    with steps.step("Runner: loading the libraries") as step:
        told = runner.wait(layout, started or runner.service(layout).running())
        how = "started" if started else "running already"
        step.done = f"Runner: {how}, {runner.sealing(told)}"
    if started and (unfinished := told["unfinished"]):
        steps.say("  An earlier runner was stopped before it finished; verify these again:")
        for job in unfinished:
            steps.say(f"    {job}")


def _start_jupyter(
    layout: Layout, steps: Steps, port: int | None, undo: contextlib.ExitStack
) -> Identity | None:
    """Start JupyterLab unless it answers; return it if it was started."""
    service, wanted = jupyter.service(layout), port or jupyter.PORT
    running = service.running() or jupyter.adopt(layout, wanted)
    if running and jupyter.answers(layout, running):
        if port not in (None, running.port):
            steps.say(
                f"  JupyterLab runs on port {running.port} already. To move it: "
                f"invoke lab.down && invoke lab.up --port {port}"
            )
        return None
    service.stop()
    undo.callback(service.stop)
    return jupyter.start(layout, wanted)


def _wait_for_jupyter(layout: Layout, steps: Steps, started: Identity | None) -> Identity:
    with steps.step("JupyterLab: starting") as step:
        server = jupyter.wait(layout, started or jupyter.service(layout).running())
        how = "started" if started else "running already"
        root = " (as root, because you are)" if started and jupyter.runs_as_root() else ""
        step.done = (
            f"JupyterLab: {how} on {jupyter.ADDRESS}:{server.port}{root}; "
            "answers with the token, refuses without"
        )
    return server


@contextlib.contextmanager
def _alone(layout: Layout, steps: Steps) -> Iterator[None]:
    """Let one command at a time change what runs."""
    with (layout.run / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            steps.say("Another command brings this lab up or down; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _state(*, there: bool, answers: bool) -> str:
    if answers:
        return "running"
    return "not answering" if there else "stopped"

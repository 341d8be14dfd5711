"""The lab as processes of this machine: up, down, what runs. Read it as a table of contents."""

from __future__ import annotations

import contextlib
import fcntl
import functools
from typing import TYPE_CHECKING

from verify.lab import assets, environment, jupyter, runner, workspace
from verify.lab.reports import Report, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.lab.layout import Layout
    from verify.lab.processes import Identity
    from verify.lab.steps import Steps


def up(layout: Layout, steps: Steps, port: int | None = None) -> str:
    """Bring the lab up, or only what of it is down; return its URL when it has proved to work.

    What fails half-way stops what this call started and leaves the rest as it was.

    Args:
        layout: Which lab.
        steps: Where to say what is done.
        port: JupyterLab's port; None for the usual one.

    Raises:
        Problem: the lab cannot come up.
    """
    with contextlib.ExitStack() as undo:
        make_environment(layout, steps)
        assets.make(layout, steps)
        with steps.step("Workspace") as step:
            step.done = workspace.fill(layout)
        new_server = _start_jupyter(layout, steps, port, undo)
        new_runner = _start_runner(layout, undo)
        _wait_for_runner(layout, steps, new_runner)
        server = _wait_for_jupyter(layout, steps, new_server)
        with steps.step("Verification round trip") as step:
            step.done = f"Verification round trip: {runner.prove(layout)}"
        undo.pop_all()
    return jupyter.url(server.port, jupyter.token(layout))


def down(layout: Layout, steps: Steps) -> bool:
    """Stop what runs; files stay. JupyterLab last: this may be typed in its terminal."""
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
    return stopped


def report(layout: Layout) -> Report:
    """Return what runs as processes of this machine."""
    server, told = jupyter.service(layout).running(), runner.hello(layout)
    server_answers = server is not None and jupyter.answers(layout, server)
    process = runner.service(layout).running()
    rows = [
        Row(
            "JupyterLab",
            _state(there=server is not None, answers=server_answers),
            jupyter.url(server.port) if server else "",
            str(server.pid) if server else "",
        ),
        Row(
            "Runner",
            _state(there=process is not None, answers=told is not None),
            str(layout.socket) if told else "",
            str(told["pid"]) if told else "",
        ),
    ]
    link = None
    if server_answers and told and server:
        link = functools.partial(_link, layout, server.port)
    return Report("local", rows, link, told)


def _link(layout: Layout, port: int) -> str:
    return jupyter.url(port, jupyter.token(layout))


def make_environment(layout: Layout, steps: Steps) -> None:
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
def alone(layout: Layout, steps: Steps) -> Iterator[None]:
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

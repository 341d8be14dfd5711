"""Talking to a runner: the resident one at a socket, or one of this run's own.

The client sends a learner's files as bytes, never a path, and imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from verify.channel import PROTOCOL, Channel, ChannelError
from verify.plain import Plain

_EVENT_SECONDS: Final = 180.0  # the longest silence: imports on a slow disk, then one job's limit
_HELLO_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 0.2

Event = dict[str, Any]
__all__ = [
    "NoRunner",
    "Refused",
    "RunnerLost",
    "connect",
    "hello",
    "persist",
    "selftest",
    "standalone",
    "verify",
]


class NoRunner(Exception):
    """Nobody answers at the socket."""


class RunnerLost(Exception):
    """The runner ended before the verification did."""


class Refused(Exception):
    """The runner does not serve this request; the message says why."""


Place = Path | tuple[str, ...]
"""Where a resident runner is: a Unix socket, or a command that carries words to it."""


def connect(place: Place) -> contextlib.AbstractContextManager[Channel]:
    """Return a channel to the resident runner at ``place``; raise `NoRunner` if there is none."""
    return _at_socket(place) if isinstance(place, Path) else _through(place)


@contextlib.contextmanager
def _through(command: tuple[str, ...]) -> Iterator[Channel]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            carrier = subprocess.Popen(  # noqa: S603 - ours, see `verify.lab.compose`
                command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the client's to handle
            )
        except OSError as error:
            raise NoRunner(str(error)) from error
        theirs.close()
        try:
            yield Channel(ours)
        finally:
            ours.close()  # which ends the carrier, and with it the one in the container
            try:
                carrier.wait(10)
            except subprocess.TimeoutExpired:
                carrier.kill()
                carrier.wait()


@contextlib.contextmanager
def _at_socket(path: Path) -> Iterator[Channel]:
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NoRunner(str(error)) from error
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_HELLO_SECONDS)
        try:  # through the folder's descriptor: a socket's path may have 107 bytes at most
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        except OSError as error:
            connection.close()
            raise NoRunner(str(error)) from error
        with connection:
            yield Channel(connection)
    finally:
        os.close(folder)


@contextlib.contextmanager
def standalone(python: Path, labs: Path, results: Path) -> Iterator[Channel]:
    """Yield a channel to a runner started for this run alone, which ends with it."""
    ours, theirs = socket.socketpair()
    command = [str(python), "-I", "-m", "verify.supervisor", "--client", str(theirs.fileno())]
    command += ["--labs", str(labs), "--results", str(results), "--runtime", "standalone"]
    with ours, theirs:
        runner = subprocess.Popen(  # noqa: S603 - the lab's own interpreter and our module
            command,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if not os.environ.get("VERIFY_LOG") else None,
            start_new_session=True,  # Ctrl-C is the client's to handle
        )
        theirs.close()
        try:
            yield Channel(ours)
        finally:
            ours.close()
            runner.terminate()
            try:
                runner.wait(10)
            except subprocess.TimeoutExpired:
                runner.kill()
                runner.wait()


def verify(
    channel: Channel,
    skills: list[dict[str, Plain]],
    seed: int | None,
    on_event: Callable[[Event], None],
) -> None:
    """Have ``skills`` judged; ``on_event`` is given each event of the runner as it arrives.

    Args:
        channel: To a runner.
        skills: Each with ``skill`` and either ``exercise`` (bytes) or ``trouble`` (why none).
        seed: Repeat this run's inputs; None for fresh ones.
        on_event: Called with ``environment``, ``job``, ``started``, ``result``, ``skill`` events.

    Raises:
        RunnerLost: it ended before the verification did.
        Refused: it does not serve this request.
    """
    request: dict[str, Plain] = {"op": "verify", "skills": list(skills), "seed": seed}
    for event in _exchange(channel, request, _EVENT_SECONDS):
        on_event(event)


def persist(
    connect_again: Callable[[], contextlib.AbstractContextManager[Channel]],
    skills: list[dict[str, Plain]],
    seed: int | None,
    on_event: Callable[[Event], None],
    patience: float,
) -> None:
    """Have ``skills`` judged as `verify` does, also when the runner ends on the way.

    Each submission is given a key under which the runner keeps it. What was decided when the runner
    ended is not judged a second time, and what was not is judged anew, from the start of its skill.

    Args:
        connect_again: Returns a channel to the runner, or raises `NoRunner`.
        skills: See `verify`.
        seed: See `verify`.
        on_event: Also called with ``lost`` when the runner has ended and is waited for.
        patience: For so many seconds it may be away.

    Raises:
        NoRunner: there is none from the start.
        RunnerLost: it has ended and did not come back.
        Refused: it does not serve this request.
    """
    left = [{**skill, "key": secrets.token_hex(16)} for skill in skills]

    def take(event: Event) -> None:
        if event["event"] == "skill":
            del left[0]
        on_event(event)

    lost: RunnerLost | None = None
    until = 0.0
    while left:
        before = len(left)
        try:
            with connect_again() as channel:
                verify(channel, left, seed, take)
                return
        except NoRunner:
            if lost is None:
                raise
        except RunnerLost as error:
            if lost is None or len(left) < before:
                lost, until = error, time.monotonic() + patience
                on_event({"event": "lost"})
        if time.monotonic() >= until:
            raise lost
        time.sleep(_AGAIN_SECONDS)


def hello(place: Place) -> Event:
    """Return what the runner at ``place`` says of itself; raise `NoRunner` if none does."""
    with connect(place) as channel:
        try:
            return next(_exchange(channel, {"op": "hello"}, _HELLO_SECONDS))
        except (RunnerLost, StopIteration, Refused) as error:
            raise NoRunner(str(error)) from error


def selftest(place: Place) -> tuple[bool, str]:
    """Have the runner judge a lab's own solution; return whether it passed, and a sentence."""
    with connect(place) as channel:
        for event in _exchange(channel, {"op": "selftest"}, _EVENT_SECONDS):
            if event["event"] == "skill":
                return _told(event["skill"])
    return False, "the runner gave no verdict"


def _told(skill: Event) -> tuple[bool, str]:
    wrong = [check for check in skill["checks"] if check["status"] in ("failed", "error")]
    if skill["ready"]:
        seconds = sum(check["seconds"] for check in skill["checks"])
        return True, f"the solution of `{skill['skill']}` passed in {seconds:.2f} s"
    reason = f"{wrong[0]['name']}: {wrong[0]['message']}" if wrong else "a check was not run"
    return False, f"the solution of `{skill['skill']}` did not pass: {reason}"


def _exchange(channel: Channel, request: dict[str, Plain], seconds: float) -> Iterator[Event]:
    """Send a request and yield the events up to the last."""
    try:
        channel.send({**request, "protocol": PROTOCOL})
        while True:
            event = channel.receive(seconds)
            if not isinstance(event, dict):
                raise RunnerLost("the runner sent something that is no event")
            if event["event"] == "refused":
                raise Refused(str(event["message"]))
            if event["event"] == "done":
                return
            yield event
    except ChannelError as error:
        raise RunnerLost(str(error)) from error


def interpreter(lab_python: Path) -> Path | None:
    """Return a Python that can judge: the lab's, or this one where it has torch; else None."""
    if lab_python.exists():
        return lab_python
    import importlib.util  # noqa: PLC0415 - rarely needed

    return Path(sys.executable) if importlib.util.find_spec("torch") else None

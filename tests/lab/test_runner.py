"""The runner is recognised by what it says of itself, and its failures are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from verify import client
from verify.code_hash import code_hash
from verify.lab import runner
from verify.lab.layout import Layout
from verify.lab.problems import Problem
from verify.lab.processes import Identity

# Answers like a runner whose code is told in its first argument.
STAND_IN = """
import os, socket, sys
from verify.channel import Channel
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    connection, _ = server.accept()
    channel = Channel(connection)
    channel.receive(5.0)
    told = {"event": "hello", "protocol": 1, "code": sys.argv[2], "pid": os.getpid()}
    told |= {"sealing": "partial", "walls": ["process", "limits"], "unfinished": []}
    channel.send(told)
    connection.close()
"""


@pytest.fixture(autouse=True)
def nothing_left(layout: Layout) -> Iterator[None]:
    yield
    runner.service(layout).stop(grace=2)


def stand_in(layout: Layout, code: str) -> Identity:
    root = os.path.dirname(os.path.dirname(client.__file__))  # noqa: PTH120
    command = [sys.executable, "-c", STAND_IN, str(layout.socket), code]
    return runner.service(layout).start(command, {**os.environ, "PYTHONPATH": root}, layout.run)


def test_nobody_says_hello_where_nobody_is(layout: Layout) -> None:
    assert runner.hello(layout) is None
    layout.socket.touch()
    assert runner.hello(layout) is None


@pytest.mark.parametrize("current", [True, False])
def test_a_runner_of_other_code_is_told_from_one_of_this(layout: Layout, current: bool) -> None:
    identity = stand_in(layout, code_hash() if current else "older")
    told = runner.wait(layout, identity)
    assert runner.is_current(told) == current
    assert runner.sealing(told) == "sealing partial (process, limits)"


def test_a_lost_record_is_written_again(layout: Layout) -> None:
    identity = stand_in(layout, "any")
    told = runner.wait(layout, identity)
    layout.record("runner").unlink()
    runner.adopt(layout, told)
    assert runner.service(layout).running() == identity


def test_a_runner_that_ends_at_once_shows_its_last_words(layout: Layout) -> None:
    command = [sys.executable, "-c", "raise SystemExit('The runner could not start: no torch')"]
    identity = runner.service(layout).start(command, os.environ, layout.run)
    with pytest.raises(Problem, match="no torch") as caught:
        runner.wait(layout, identity)
    assert caught.value.type_this == "invoke lab.logs --service runner"


def test_a_runner_that_never_answers(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_START_SECONDS", 0.2)
    identity = runner.service(layout).start(["sleep", "60"], os.environ, layout.run)
    with pytest.raises(Problem, match="gave no answer within"):
        runner.wait(layout, identity)


def fails(error: Exception) -> Any:
    def selftest(_socket: object) -> tuple[bool, str]:
        raise error

    return selftest


@pytest.mark.parametrize(
    "selftest",
    [
        lambda _socket: (False, "a check failed"),
        fails(client.NoRunner("gone")),
        fails(client.RunnerLost("gone")),
        fails(client.Refused("gone")),
    ],
)
def test_a_round_trip_that_fails_is_our_fault_and_says_so(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, selftest: Any
) -> None:
    monkeypatch.setattr(client, "selftest", selftest)
    with pytest.raises(Problem) as caught:
        runner.prove(layout)
    assert "not of your work" in caught.value.cause
    assert caught.value.code == 3


def test_the_runner_gets_no_secrets(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}

    def start(self: object, command: object, env: dict[str, str], folder: object) -> Identity:
        given.update(env)
        return Identity(0, 0, "")

    monkeypatch.setattr(runner.Service, "start", start)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("JUPYTER_TOKEN", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    runner.start(layout)
    assert "secret" not in given.values()
    assert given["CUDA_VISIBLE_DEVICES"] == "0"

"""Clients of a real runner that ask for anything, half of it, or leave; the next is unharmed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from tests.conftest import Runner
from tests.fuzz.changes import SHORT, changed
from tests.fuzz.targets import fuzzed
from tests.fuzz.test_framing import STREAMS, frame, half_frames
from tests.fuzz.test_messages import CONTROL
from tests.fuzz.values import MESSAGES, damaged
from tests.verify.test_outcomes import GOOD, with_act
from verify.channel import Channel, Closed
from verify.codec import encode
from verify.pids import children
from verify.plain import Plain
from verify.results import CheckResult

_PATIENCE: Final = 60.0  # seconds for one answer, on a busy machine
_MANNERS: Final = ("whole", "half", "held", "unread", "left", "pieces", "more", "shut")
_REQUEST_BYTES: Final = 16 * 1024**2  # of which the runner reads no more
_AT_REST: Final[dict[int, tuple[int, int, int]]] = {}  # what each runner holds then, by its pid
_HIGH: Final = 512 * 1024**2  # bytes of memory that a runner may ever have had


def _writes(stream: bytes) -> bytes:
    """Return an exercise that says ``stream`` to the judge, and then what is right."""
    return with_act(f"os.write(3, {stream!r}); return x + 1").encode()


_ANSWERS: Final = st.sampled_from((None, 2.0, 6.0, 7)).map(
    lambda value: frame(encode({"observation": value}))
)
EXERCISES: Final = st.one_of(
    st.sampled_from([GOOD.encode(), b"", b"def act(", b"\0", b"x = 1 / 0\n" + GOOD.encode()]),
    st.sampled_from(["return x", "os._exit(3)", "raise KeyError", "return [x] * 9"]).map(
        lambda body: with_act(body).encode()
    ),
    st.binary(max_size=30),
    st.lists(_ANSWERS | damaged(_ANSWERS) | STREAMS, max_size=4).map(b"".join).map(_writes),
)
_SUBMISSIONS: Final = st.fixed_dictionaries(
    {"skill": st.just("acts"), "exercise": EXERCISES, "trouble": st.none()},
    optional={"key": SHORT.filter(bool)},
)
VALID: Final[st.SearchStrategy[Plain]] = st.fixed_dictionaries(
    {
        "op": st.just("verify"),
        "protocol": st.just(1),
        "skills": st.lists(_SUBMISSIONS, min_size=1, max_size=3),
        "seed": st.none() | st.integers(0, 2**63 - 1),
    }
) | st.sampled_from(({"op": "hello", "protocol": 1}, {"op": "selftest", "protocol": 1}))
REQUESTS: Final = st.one_of(
    VALID.flatmap(changed).map(encode).map(frame),
    VALID.map(encode).map(frame),
    damaged(VALID.map(encode)).map(frame),
    MESSAGES.map(frame),
    half_frames(),
    STREAMS,
)


def is_whole(sent: bytes) -> bool:
    """Tell whether ``sent`` begins with all that the runner waits for before it answers."""
    size = int.from_bytes(sent[:4], "big")
    return len(sent) >= 4 and (size > _REQUEST_BYTES or len(sent) - 4 >= size)


@dataclasses.dataclass
class Call:
    """What one client sends, and how."""

    sent: bytes
    manner: str

    @property
    def listens(self) -> bool:
        """Whether it waits for its answers; without a whole request it would wait long."""
        return self.manner in ("whole", "pieces", "more", "shut") and is_whole(self.sent)


class Caller:
    """One client, from when it connects to when it leaves."""

    def __init__(self, runner: Runner, call: Call) -> None:
        self.call = call
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(runner.socket))

    def send(self) -> None:
        sent, manner = self.call.sent, self.call.manner
        if manner in ("half", "held"):
            sent = sent[: len(sent) // 2]
        if manner == "more":
            sent += sent[:100] + b"\xff" * 8
        step = len(sent) // 5 + 1 if manner == "pieces" else len(sent) + 1
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for at in range(0, len(sent), step):
                self._socket.sendall(sent[at : at + step])
                time.sleep(0.01 * (manner == "pieces"))
            if manner == "shut":
                self._socket.shutdown(socket.SHUT_WR)
        if manner in ("half", "left"):
            self.leave()

    def answers(self) -> list[dict[str, Any]]:
        """Return what the runner says until it hangs up."""
        channel = Channel(self._socket)
        told: list[dict[str, Any]] = []
        while True:
            try:
                event = channel.receive(_PATIENCE)
            except Closed:
                return told
            assert isinstance(event, dict), event
            told.append(event)

    def leave(self) -> None:
        self._socket.close()


def _must_be_right(told: list[dict[str, Any]], call: Call) -> None:
    """Check the events of one client: well-formed, none our error, and the last is an end."""
    for event in told:
        if event["event"] == "result":
            result = msgspec.convert(event["result"], CheckResult)
            assert result.status != "error", result
            assert not CONTROL.search(result.message), result
        if event["event"] == "refused":
            assert "the runner failed" not in event["message"], "see the runner's log"
    if call.manner != "shut":  # which the runner takes for leaving
        assert told, "a whole request had no answer"
        assert told[-1]["event"] in ("refused", "done", "hello"), told[-1]


def _held(runner: Runner) -> tuple[int, int, int]:
    """Return how many descriptors, threads and children the runner has."""
    assert runner.process is not None
    there = Path("/proc", str(runner.process.pid))
    return (
        len(os.listdir(there / "fd")),  # noqa: PTH208
        len(os.listdir(there / "task")),  # noqa: PTH208
        len(children(runner.process.pid)),
    )


def _peak(runner: Runner) -> int:
    assert runner.process is not None
    status = Path("/proc", str(runner.process.pid), "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _must_rest(runner: Runner) -> None:
    """Check that nothing is kept of clients that are gone; the first time is what it needs."""
    assert runner.process is not None
    at_rest = _AT_REST.setdefault(runner.process.pid, _held(runner))
    deadline = time.monotonic() + 20
    while any(now > before for now, before in zip(_held(runner), at_rest, strict=True)):
        assert time.monotonic() < deadline, f"{_held(runner)}, at rest {at_rest}"
        time.sleep(0.02)
    assert _peak(runner) < _HIGH


@fuzzed(
    10,
    calls=st.lists(st.builds(Call, REQUESTS, st.sampled_from(_MANNERS)), min_size=1, max_size=5),
)
def test_whatever_clients_ask_the_next_is_served(outcomes: Runner, calls: list[Call]) -> None:
    assert outcomes.process is not None
    if outcomes.process.pid not in _AT_REST:
        outcomes.verify("acts", GOOD)
        time.sleep(0.5)
        _must_rest(outcomes)
    callers = [Caller(outcomes, call) for call in calls]
    for caller in callers:
        caller.send()
    for caller in callers:
        if caller.call.listens:
            _must_be_right(caller.answers(), caller.call)
    assert outcomes.verify("acts", GOOD)["acts"].status == "passed"
    for caller in callers:
        caller.leave()
    assert outcomes.process.poll() is None, "the runner has ended"
    _must_rest(outcomes)


@fuzzed(8, request=VALID, manner=st.sampled_from(("whole", "pieces", "more")))
def test_a_request_that_is_right_is_served(outcomes: Runner, request: Plain, manner: str) -> None:
    caller = Caller(outcomes, Call(frame(encode(request)), manner))
    caller.send()
    told = caller.answers()
    caller.leave()
    _must_be_right(told, caller.call)
    assert told[-1]["event"] in ("done", "hello"), told[-1]

"""What the supervisor asks a job's keeper, and what it makes of the answers; or of none."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from verify import learners
from verify.channel import Channel, Closed
from verify.labs import Limits
from verify.learners import Keeper, Terms
from verify.plain import Plain
from verify.processes import ZygoteError

TERMS = Terms(
    directory="/tmp/job",
    mounts=True,
    uid=59_001,
    limits=Limits(seconds=7.0),
    processes=9,
    address_space=False,
    files=True,
    system_calls=False,
)


class Told:
    """The family and the keeper in one: a thread that answers as the test says."""

    def __init__(self, answers: list[Plain]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.given: list[int] = []
        self.ended: list[int] = []
        self._answers = answers

    def fork(self, role: str, channel: socket.socket) -> int:
        assert role == "keeper"
        served = Channel(channel.dup())
        threading.Thread(target=self._serve, args=(served,), daemon=True).start()
        return 4242

    def end(self, pid: int) -> None:
        self.ended.append(pid)

    def _serve(self, channel: Channel) -> None:
        with contextlib.suppress(Closed), contextlib.closing(channel):
            for answer in self._answers:
                told, fds = channel.receive_with_fds(10)
                self.asked.append(told)  # type: ignore[arg-type]
                self.given += [os.fstat(fd).st_ino for fd in fds]
                for fd in fds:
                    os.close(fd)
                if answer == "silence":
                    time.sleep(1)
                channel.send(answer)


@contextlib.contextmanager
def keeper(*answers: Plain) -> Iterator[tuple[Keeper, Told]]:
    told = Told(list(answers))
    made = Keeper(told, TERMS)  # type: ignore[arg-type]
    try:
        yield made, told
    finally:
        made.close()


def test_a_start_tells_the_seal_and_hands_over_channel_and_output() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with keeper({"pid": 5}) as (made, told), ours, theirs:
        made.start(theirs, writer)
        assert told.given == [os.fstat(theirs.fileno()).st_ino, os.fstat(writer).st_ino]
    os.close(reader)
    os.close(writer)
    (asked,) = told.asked
    assert asked["op"] == "start"
    seal = asked["seal"]
    assert Terms(**{**seal, "limits": Limits(**seal["limits"])}) == TERMS


def test_the_terms_are_the_seals_fields() -> None:
    """The keeper makes a `Seal` of them: what it does not add itself must be there."""
    from verify.sealing import Seal

    wanted = {field.name for field in dataclasses.fields(Seal)} - {"parent"}
    assert {field.name for field in dataclasses.fields(Terms)} - {"mounts"} == wanted


def test_a_status_is_a_number_or_none_while_it_runs() -> None:
    with keeper({"status": None}, {"status": 9}) as (made, told):
        assert made.wait(0.5) is None
        assert made.wait(1.0) == 9
    assert [(it["op"], it["seconds"]) for it in told.asked] == [("wait", 0.5), ("wait", 1.0)]


def test_a_kill_is_asked_for() -> None:
    with keeper({}) as (made, told):
        made.kill()
    assert [it["op"] for it in told.asked] == ["kill"]


def test_what_could_not_be_ended_is_our_error() -> None:
    with keeper({"swept": True}, {"swept": False}) as (made, told):
        made.end()
        with pytest.raises(ZygoteError, match="could not be ended"):
            made.end()
    assert [it["op"] for it in told.asked] == ["end", "end"]


def test_a_keeper_that_is_gone_is_our_error_and_no_crash() -> None:
    with keeper() as (made, _), pytest.raises(ZygoteError, match="does not answer"):
        made.kill()


def test_a_keeper_that_hangs_is_our_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "_ANSWERS", 0.1)
    with keeper("silence") as (made, _), pytest.raises(ZygoteError, match="does not answer"):
        made.kill()


def test_it_is_ended_with_its_job() -> None:
    with keeper() as (_, told):
        assert told.ended == []
    assert told.ended == [4242]

"""A command that takes long: what it prints arrives as it prints it, and it never outlives us."""

from __future__ import annotations

import contextlib
import sys
import time

import pytest

from tests.conftest import alive
from verify.lab.following import Following, following

PATIENT = """
import signal, sys, time
def undo(*_):
    print("undone", flush=True)
    sys.exit(5)
signal.signal(signal.SIGINT, undo)
print("ready", flush=True)
time.sleep(60)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_come_as_they_are_printed_and_none_in_between() -> None:
    with following(python("import time; print(1, flush=True); time.sleep(.6); print(2)")) as it:
        told = list(it.lines())
        assert it.wait() == 0
    assert [line for line in told if line] == ["1\n", "2\n"]
    assert None in told


def test_both_outputs_are_heard() -> None:
    with following(python("import sys; sys.stderr.write('no'); sys.exit(3)")) as it:
        assert [line for line in it.lines() if line] == ["no"]
        assert it.wait() == 3


def test_an_interrupted_command_may_undo_what_it_did() -> None:
    def interrupted() -> Following:
        with contextlib.suppress(KeyboardInterrupt), following(python(PATIENT)) as it:
            assert next(line for line in it.lines() if line) == "ready\n"
            raise KeyboardInterrupt
        return it

    it = interrupted()
    assert not alive(it.pid)
    assert it.wait() == 5


def test_one_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.lab.following._ENDS", 0.2)
    deaf = PATIENT.replace("undo)", "signal.SIG_IGN)")
    began = time.monotonic()
    with following(python(deaf)) as it:
        next(it.lines())
    assert not alive(it.pid)
    assert time.monotonic() - began < 30

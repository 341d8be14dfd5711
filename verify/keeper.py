"""The process above a job's learners: it starts them, and nothing they start outlives it.

It is a trusted child of the supervisor and the parent, or the next of kin, of every process of the
job: an orphan comes to it and to nobody else. So jobs can run beside each other, also without a
user of their own, and each is swept for itself. It reads nothing that learner code says.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any, Final, NoReturn

from verify import learner, privileges, scratch, sealing
from verify.channel import Channel, Closed
from verify.labs import Limits
from verify.pids import descendants

_ENDS: Final = 10.0  # seconds in which everything must have ended


def main(fd: int, supervisor: int) -> None:
    """Serve the supervisor at ``fd`` until it closes the channel; then end everything."""
    privileges.hide_memory()  # learners are forked from here
    privileges.die_with(supervisor)
    privileges.adopt_orphans()
    keeper = _Keeper(Channel(socket.socket(fileno=fd)))
    with contextlib.suppress(Closed):
        keeper.serve()
    keeper.end_all()


class _Keeper:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._learner = 0
        self._status: int | None = None
        self._has_room = False

    def serve(self) -> None:
        """Do what the supervisor asks, one thing after the other."""
        while True:
            told, fds = self._channel.receive_with_fds()
            assert isinstance(told, dict)
            if told["op"] == "start":
                self._start(told["seal"], fds)  # type: ignore[arg-type]
                answer: dict[str, Any] = {"pid": self._learner}
            elif told["op"] == "wait":
                answer = {"status": self._wait(told["seconds"])}  # type: ignore[arg-type]
            elif told["op"] == "kill":
                self._kill_learner()
                answer = {}
            else:
                answer = {"swept": self.end_all()}
            for fd in fds:
                os.close(fd)
            self._channel.send(answer)

    def _start(self, seal: dict[str, Any], fds: list[int]) -> None:
        """Fork a learner; whatever the one before it has left is ended first."""
        self.end_all()
        limits = Limits(**seal.pop("limits"))
        if seal.pop("mounts") and not self._has_room:
            scratch.enter(seal["directory"], seal["uid"], limits.disk_bytes)
            self._has_room = True
        self._status, parent = None, os.getpid()
        self._learner = os.fork()
        if self._learner == 0:
            self._channel.close()
            _be_learner(sealing.Seal(**seal, limits=limits, parent=parent), fds)

    def _wait(self, seconds: float) -> int | None:
        """Return the learner's wait status if it ends by itself within ``seconds``, else None."""
        deadline = time.monotonic() + seconds
        while self._status is None and time.monotonic() < deadline:
            if not self._reap_one():
                time.sleep(0.002)
        return self._status

    def _kill_learner(self) -> None:
        if self._learner and self._status is None:  # not reaped: the number is still its own
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self._learner, signal.SIGKILL)

    def end_all(self) -> bool:
        """Kill and reap everything below this process; return whether nothing is left.

        Most often that is the learner alone. Where there is more, all is stopped before it is
        killed: what forks faster than it can be killed would never be done with.
        """
        self._kill_learner()
        deadline = time.monotonic() + _ENDS
        looked = 0.0
        while time.monotonic() < deadline:
            try:
                reaped = self._reap_one()
            except ChildProcessError:
                return True  # no child is left, and every orphan would be one
            if not reaped and time.monotonic() > looked + 0.005:
                _kill_below()
                looked = time.monotonic()
            elif not reaped:
                time.sleep(0.0005)
        return False

    def _reap_one(self) -> bool:
        """Reap a child that has ended, if any has; raise `ChildProcessError` if there is none."""
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == self._learner and pid:
            self._status = status
        return bool(pid)


def _kill_below() -> None:
    below = descendants(os.getpid())
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _be_learner(seal: sealing.Seal, fds: list[int]) -> NoReturn:
    """Be the learner; never return into the keeper's loop."""
    status = 1
    try:
        sealing.close(seal, fds[0], fds[1])
        learner.main(seal.limits)
        status = 0
    except BaseException:  # noqa: BLE001 - it must not unwind into the keeper
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

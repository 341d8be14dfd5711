"""The supervisor's children: the zygote, the judges and keepers forked from it, and strays."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from verify import privileges, sealing
from verify.channel import Channel, ChannelError, pair
from verify.pids import children, reap

_STARTS = 120.0  # seconds for the imports, on a slow disk
_FORKS = 10.0
_ENDS = 10.0
_ENDS_SOON = 0.1
_FORKS_EACH = 1000  # of one zygote; a job takes two

log = logging.getLogger("verify.processes")


class ZygoteError(Exception):
    """The process that jobs are forked from fails: our fault or the environment's."""


class Family:
    """Starts the zygote, has it fork, and sees to it that every process of a job ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # from a fork until its pid is known, and while sweeping
        self._own: set[int] = set()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: Channel | None = None
        self._forks = 0
        self._stopped = False
        # A child that dies with its parent dies with the *thread* that started it (prctl(2),
        # PR_SET_PDEATHSIG), so one thread that lives as long as the process starts them all.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")
        privileges.adopt_orphans()

    def start(self) -> None:
        """Start the zygote and wait until its imports are done."""
        with self._lock:
            self._start()

    def fork(self, role: str, channel: socket.socket) -> int:
        """Fork a ``judge`` or a ``keeper`` at the other end of ``channel``; return its pid.

        Raises:
            ZygoteError: the zygote did not, even when started anew.
        """
        with self._lock:
            for first in (True, False):
                try:
                    pid = self._fork(role, channel.fileno())
                except (ChannelError, OSError) as error:
                    if not first:
                        raise ZygoteError(f"a {role} could not be started: {error}") from error
                    self._stop_zygote()
                    self._start()
                else:
                    self._own.add(pid)
                    if self._forks == _FORKS_EACH:
                        self.renew()  # what could have been done to one ends with it
                    return pid
        raise AssertionError("not reached")

    def renew(self) -> None:
        """Start the zygote anew, in the background; the next fork waits for it.

        For after a process that ended as it should not, whatever it may have done.
        """
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        with self._lock, contextlib.suppress(ZygoteError):  # the next fork says what is wrong
            if not self._stopped:
                self._stop_zygote()
                self._start()

    def run(self, command: list[str], **how: Any) -> int:
        """Run a program of ours, which no sweep takes for a stray; return its exit code."""
        with self._lock:
            program = subprocess.Popen(command, **how)  # noqa: S603 - our own words
            self._own.add(program.pid)
        try:
            return program.wait()
        finally:
            with self._lock:
                self._own.discard(program.pid)

    def end(self, pid: int) -> None:
        """Kill ``pid`` and its process group and reap it; never wait for ever.

        A process that another traces cannot be reaped before its tracer has ended, so where it
        takes longer than it should, strays are ended too.
        """
        began = time.monotonic()
        while (taken := time.monotonic() - began) < _ENDS:
            self.kill(pid)
            if reap(pid):
                break
            if taken > _ENDS_SOON:
                self._sweep_once()
            time.sleep(0.002)
        else:
            log.error("process %d could not be ended within %.0f s", pid, _ENDS)
        with self._lock:
            self._own.discard(pid)

    def kill(self, pid: int) -> None:
        """Send SIGKILL to ``pid``, a child of ours, and to its process group if it leads one."""
        assert pid > 1  # 0 and -1 are whole groups, ours among them
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)

    def sweep(self) -> None:
        """Kill what a learner left behind, until nothing is left or it took too long."""
        deadline = time.monotonic() + _ENDS
        while self._sweep_once():
            if time.monotonic() > deadline:
                log.error("a learner's processes could not be ended within %.0f s", _ENDS)
                return
            time.sleep(0.001)

    def _sweep_once(self) -> bool:
        """Kill and reap the strays there are; return whether there were any."""
        with self._lock:
            strays = self._strays()
            for pid in strays:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            for pid in strays:
                reap(pid)
        return bool(strays)

    def stop(self) -> None:
        """End every child."""
        with self._lock:
            self._stopped = True
            self._stop_zygote()
            self._own.clear()
        self.sweep()
        self._starter.shutdown()

    def _strays(self) -> list[int]:
        """Return the children that are neither the zygote nor a known judge or keeper."""
        known = self._own | ({self._zygote.pid} if self._zygote else set())
        return [pid for pid in children(os.getpid()) if pid not in known]

    def _start(self) -> None:
        self._starter.submit(self._exec_zygote).result()

    def _exec_zygote(self) -> None:
        self._control, theirs = pair()
        with theirs:
            command = [sys.executable, "-I", "-m", "verify.zygote"]
            command += ["--control", str(theirs.fileno()), "--supervisor", str(os.getpid())]
            self._zygote = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                env=sealing.clean_environment(),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
            )
        try:
            self._control.receive(_STARTS)
        except ChannelError as error:
            self._stop_zygote()
            raise ZygoteError(f"the libraries could not be imported: {error}") from error

    def _fork(self, role: str, fd: int) -> int:
        if self._control is None:
            raise ChannelError("there is no zygote")
        self._forks += 1
        self._control.send({"role": role, "supervisor": os.getpid()}, [fd], _FORKS)
        answer = self._control.receive(_FORKS)
        if not isinstance(answer, dict) or not isinstance(answer.get("pid"), int):
            raise ChannelError("the zygote gave no pid")
        return int(answer["pid"])  # type: ignore[arg-type]

    def _stop_zygote(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()
            self._zygote = None
        self._forks = 0


def describe(status: int) -> tuple[str, str]:
    """Return the cause and a sentence for a learner's process that ended with ``status``."""
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        return "crashed", f"The process exited with status {code} before it answered."
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number == signal.SIGKILL:
        return "memory", "The process was killed by the system, most likely for its memory."
    if number == signal.SIGXCPU:
        return "timeout", "The process used up its processor time."
    if number == signal.SIGXFSZ:
        return "output", "The process wrote more to a file than a job may."
    return "crashed", f"The process died of {name} before it answered."

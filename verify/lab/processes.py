"""Services that outlive the command that starts them, and never a signal to a stranger.

A record file says which process a service is: its id, and when the kernel started it. An id is
used again by the kernel; an id together with its start time (and the boot it was counted in)
is not. A process is only ever signalled when both still agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROC = Path("/proc")
_BOOT = _PROC / "sys/kernel/random/boot_id"
_LOG_BYTES = 8 * 1024**2  # a longer log is set aside when its service starts anew
_ZOMBIE = "Z"


@dataclasses.dataclass(frozen=True)
class Stat:
    """What ``/proc/PID/stat`` says of a process (man 5 proc_pid_stat)."""

    pid: int
    state: str
    group: int
    ticks: int


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which process a service is; ``port`` is 0 for a service without one."""

    pid: int
    ticks: int
    boot: str
    port: int = 0


def stat(pid: int) -> Stat | None:
    """Return what the kernel says of process ``pid``, or None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return Stat(pid, state=fields[0], group=int(fields[2]), ticks=int(fields[19]))


def identify(pid: int, port: int = 0) -> Identity | None:
    """Return the identity of the living process ``pid``, or None."""
    found = stat(pid)
    if found is None or found.state == _ZOMBIE:
        return None
    return Identity(pid, found.ticks, _BOOT.read_text().strip(), port)


def members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = (stat(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
    return [it.pid for it in found if it and it.group == group and it.state != _ZOMBIE]


class Service:
    """A process in a session of its own, known by its record file.

    Args:
        name: What it is called.
        record: The file that says which process it is.
        log: Where its output goes.
    """

    def __init__(self, name: str, record: Path, log: Path) -> None:
        self.name = name
        self.record = record
        self.log = log

    def start(
        self, command: Sequence[str], env: Mapping[str, str], folder: Path, port: int = 0
    ) -> Identity:
        """Start ``command`` in ``folder``, detached: it survives this terminal and its Ctrl-C."""
        self._set_long_log_aside()
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 (our own command, no shell)
                command,
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            identity = identify(process.pid, port)
            if identity is None:  # it has ended already: a record that fits no process
                identity = Identity(process.pid, 0, "", port)
            self.remember(identity)
        except BaseException:
            process.kill()
            raise
        return identity

    def remember(self, identity: Identity) -> None:
        """Write the record."""
        new = self.record.with_suffix(".new")
        new.write_text(json.dumps(dataclasses.asdict(identity)))
        new.replace(self.record)

    def running(self) -> Identity | None:
        """Return which process the service is, or None when it does not run."""
        try:
            identity = Identity(**json.loads(self.record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # another user's record is not none: that error goes on
        return identity if identify(identity.pid, identity.port) == identity else None

    def stop(self, grace: float = 10.0) -> bool:
        """Stop it: TERM to the process, KILL to its group for what is left after ``grace`` seconds.

        Returns:
            Whether it was running.
        """
        identity = self.running()
        if identity is not None:
            os.kill(identity.pid, signal.SIGTERM)
            _wait_until_gone(identity.pid, grace)
            # The group's number cannot have been given to others: it was in use until now.
            for pid in members(identity.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _wait_until_gone(identity.pid, grace)
        self.record.unlink(missing_ok=True)
        return identity is not None

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines of its log."""
        try:
            return self.log.read_text(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    def _set_long_log_aside(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))


def _wait_until_gone(group: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while members(group) and time.monotonic() < deadline:
        time.sleep(0.02)

"""Whether a port of 127.0.0.1 is free, and who has it when it is not."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import ipaddress
import socket
import sys
from pathlib import Path

from verify.lab.problems import Misuse, Problem

_HIGHEST = 65535
_FIRST_UNPRIVILEGED = 1024
_LISTENING = "0A"  # the state's number in /proc/net/tcp


@dataclasses.dataclass(frozen=True)
class Listener:
    """A process that listens on a port."""

    pid: int
    name: str


def parse_port(text: str) -> int:
    """Return the port that ``text`` names.

    Raises:
        Misuse: it names none that a server without privileges can have.
    """
    if text.isdecimal() and _FIRST_UNPRIVILEGED <= int(text) <= _HIGHEST:
        return int(text)
    raise Misuse(
        f"--port {text} is not a port from {_FIRST_UNPRIVILEGED} to {_HIGHEST}.",
        type_this="invoke lab.up --port 8889",
    )


def is_free(port: int) -> bool:
    """Return whether a server could listen on 127.0.0.1:``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True


def listener(port: int) -> Listener | None:
    """Return who listens on ``port``, as far as this user may see (other users' are hidden)."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and sockets & _descriptors(process):
            with contextlib.suppress(OSError):
                return Listener(int(process.name), (process / "comm").read_text().strip())
    return None


def listens(pid: int, port: int) -> bool:
    """Return whether process ``pid`` is the one that listens on ``port``."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    return bool(sockets & _descriptors(Path("/proc", str(pid))))


def addresses(port: int) -> list[str]:
    """Return the addresses of this machine on which anybody listens on ``port``."""
    found = {_address(fields[1].partition(":")[0]) for fields in _listening(port)}
    return sorted(str(it) for it in found)


def in_use(port: int) -> Problem:
    """Return the problem of a port that somebody else has."""
    who = listener(port)
    other = next((p for p in range(port + 1, min(port + 100, _HIGHEST)) if is_free(p)), 0)
    return Problem(
        f"Port {port} of 127.0.0.1 is in use.",
        cause=f"{who.name} (process {who.pid}) listens there"
        if who
        else "a program of another user listens there",
        type_this=f"invoke lab.up --port {other or 'N'}",
    )


def _inodes(port: int) -> list[str]:
    """Return the inodes of the sockets that listen on ``port``."""
    return [fields[9] for fields in _listening(port)]


def _listening(port: int) -> list[list[str]]:
    """Return the rows of the kernel's tables that listen on ``port`` (man 5 proc_pid_net)."""
    found = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    found.append(fields)
    return found


def _address(written: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that the kernel writes as words of 4 bytes in the machine's order."""
    words = bytes.fromhex(written)
    swapped = (words[at : at + 4][:: -1 if sys.byteorder == "little" else 1] for at in _at(words))
    return ipaddress.ip_address(b"".join(swapped))


def _at(words: bytes) -> range:
    return range(0, len(words), 4)


def _descriptors(process: Path) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(link.readlink()))
    return found

"""Listening at the runner's Unix socket, however deep its folder lies and whosever it is."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from verify.ownership import acting_as


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen at ``path``; a socket left by a runner that ended is replaced.

    The socket is for the user who owns the folder (and for root's group, so that the runner's own
    container can ask whether it is well). A runner in a container is root without the right to
    write in others' folders: it makes the socket as the folder's owner.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    short = f"/proc/self/fd/{folder}/{path.name}"  # a socket's path may have 107 bytes at most
    owner = os.fstat(folder)
    mask = _mask(owner)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            with acting_as(owner.st_uid):
                _bind(server, short, mask)
            server.listen()
            try:
                yield server
            finally:
                with acting_as(owner.st_uid), contextlib.suppress(FileNotFoundError):
                    Path(short).unlink()
    finally:
        os.close(folder)


def _bind(server: socket.socket, path: str, mask: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    before = os.umask(mask)
    try:
        server.bind(path)
    finally:
        os.umask(before)


def _mask(folder: os.stat_result) -> int:
    """Return the bits that the socket in ``folder`` is not to have."""
    return 0o117 if os.geteuid() == 0 != folder.st_uid else 0o177

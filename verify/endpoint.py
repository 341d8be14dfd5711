"""Listening at the runner's Unix socket, however deep its folder lies."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen at ``path``, for this user alone; a socket left by a runner that ended is replaced."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    short = f"/proc/self/fd/{folder}/{path.name}"  # a socket's path may have 107 bytes at most
    with socket.socket(socket.AF_UNIX) as server:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        before = os.umask(0o177)
        server.bind(short)
        os.umask(before)
        server.listen()
        try:
            yield server
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            os.close(folder)

"""Carries a client's words to the runner's socket, inside the runner's container.

``python -I -m verify.relay SOCKET`` is what `docker exec` runs where the socket itself cannot be
reached from the host, because the engine is in a virtual machine (Docker Desktop).
"""

from __future__ import annotations

import os
import select
import socket
import sys
from typing import Final

_CHUNK: Final = 65536


def carry(server: socket.socket, reader: int, writer: int) -> None:
    """Carry bytes both ways until either side has no more."""
    ways = {reader: server.sendall, server.fileno(): lambda data: _write(writer, data)}
    while True:
        ready, _, _ = select.select(list(ways), [], [])
        for source in ready:
            data = os.read(source, _CHUNK)
            if not data:
                return
            ways[source](data)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as runner:
        runner.connect(sys.argv[1])
        carry(runner, sys.stdin.fileno(), sys.stdout.fileno())

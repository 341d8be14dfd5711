"""Messages over a stream socket: a length, a value of `verify.codec`, and descriptors beside it.

Every process of a job speaks this and nothing else. The other side may be hostile: what it sends
is bounded in size and time, and anything but one well-formed value is a `ChannelError`.
"""

from __future__ import annotations

import array
import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Final

from verify.codec import MAX_BYTES, CodecError, decode, encode
from verify.plain import Plain

PROTOCOL: Final = 1
"""Version of what clients and runners say to each other."""

_HEADER: Final = struct.Struct(">I")
_MAX_FDS: Final = 4
_SO_PASSRIGHTS: Final = 83  # socket(7); asm-generic/socket.h
GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
"""The events of a socket whose other side has closed."""

_CHUNK: Final = 1024 * 1024


class ChannelError(Exception):
    """The other side sent something that is no message."""


class Closed(ChannelError):
    """The other side is gone."""


class Silent(ChannelError):
    """The other side did not answer, or did not take what was sent, in time."""


class Channel:
    """One end of a stream socket; blocking, with a time limit on each message."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def gone(self) -> bool:
        """Tell whether the other side has closed; what it sent before may still be there."""
        poller = select.poll()
        poller.register(self._socket, GONE)
        return any(event & GONE for _, event in poller.poll(0))

    def send(self, value: Plain, fds: Sequence[int] = (), seconds: float = 30.0) -> None:
        """Send one message.

        Raises:
            CodecError: ``value`` is not plain data within the caps.
            ChannelError: the other side is gone or does not read.
        """
        body = encode(value)
        deadline = time.monotonic() + seconds
        ancillary = []
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        message = memoryview(_HEADER.pack(len(body)) + body)
        while message:
            self._wait(select.POLLOUT, deadline)
            try:
                sent = self._socket.sendmsg([message[:_CHUNK]], ancillary)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Closed("the other side is gone") from error
            ancillary = []
            message = message[sent:]
            if message:
                _check_time(deadline)

    def receive(self, seconds: float | None = None, max_bytes: int = MAX_BYTES) -> Plain:
        """Return the next message; descriptors that come with it are closed.

        Raises:
            Closed: the other side is gone.
            Silent: no whole message came within ``seconds``.
            ChannelError: what came is not a message of at most ``max_bytes``.
        """
        value, fds = self.receive_with_fds(seconds, max_bytes)
        for fd in fds:
            socket.close(fd)
        return value

    def receive_with_fds(
        self, seconds: float | None = None, max_bytes: int = MAX_BYTES
    ) -> tuple[Plain, list[int]]:
        """Return the next message and the descriptors that came with it; see `receive`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        fds: list[int] = []
        try:
            header = self._read(_HEADER.size, deadline, fds)
            (size,) = _HEADER.unpack(header)
            if size > max_bytes:
                raise ChannelError(f"a message of {size} bytes is over the limit of {max_bytes}")
            return decode(self._read(size, deadline, fds)), fds
        except BaseException as error:
            for fd in fds:
                socket.close(fd)
            if isinstance(error, CodecError):
                raise ChannelError(str(error)) from error
            raise

    def _read(self, count: int, deadline: float | None, fds: list[int]) -> bytes:
        data = bytearray()
        space = socket.CMSG_LEN(_MAX_FDS * array.array("i").itemsize)
        while len(data) < count:
            self._wait(select.POLLIN, deadline)
            wanted = min(count - len(data), _CHUNK)
            try:
                part, ancillary, _, _ = self._socket.recvmsg(wanted, space, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Closed("the other side is gone") from error
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    numbers = array.array("i")
                    numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                    fds.extend(numbers)
            if len(fds) > _MAX_FDS:
                raise ChannelError("more descriptors than a message may carry")
            if not part:
                raise Closed("the other side is gone")
            data += part
            if len(data) < count:
                _check_time(deadline)
        return bytes(data)

    def _wait(self, event: int, deadline: float | None) -> None:
        poller = select.poll()
        poller.register(self._socket, event)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poller.poll(left):
            raise Silent("the other side does not answer")


def _check_time(deadline: float | None) -> None:
    """Raise `Silent` past ``deadline``: a trickle always has one byte more, and must end."""
    if deadline is not None and time.monotonic() > deadline:
        raise Silent("the other side takes too long")


def refuse_descriptors(sock: socket.socket) -> None:
    """Have the kernel refuse descriptors sent to ``sock``; before Linux 6.16 it cannot.

    A descriptor that arrives must be closed, and closing one can be made to take for ever.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def pair() -> tuple[Channel, socket.socket]:
    """Return a channel and the socket at its other end, to be handed to a child."""
    ours, theirs = socket.socketpair()
    return Channel(ours), theirs

"""The framing of messages, over real sockets: what was sent in whole frames, then the right end."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from tests.fuzz.targets import fuzzed
from tests.fuzz.values import MESSAGES, PLAIN, WHOLE, identical
from verify.channel import Channel, ChannelError, Closed, Silent, pair
from verify.codec import CodecError, decode, encode
from verify.plain import Plain

LIMIT: Final = 1000  # bytes of a message
_HEADER: Final = struct.Struct(">I")
_SIZES: Final = st.sampled_from((0, 1, LIMIT, LIMIT + 1, 2**31, 2**32 - 1)) | st.integers(0, 300)


def frame(message: bytes) -> bytes:
    return _HEADER.pack(len(message)) + message


@st.composite
def half_frames(draw: st.DrawFn) -> bytes:
    whole = frame(draw(WHOLE))
    return whole[: draw(st.integers(0, len(whole) - 1))]


STREAMS = st.lists(
    st.one_of(
        WHOLE.map(frame),
        MESSAGES.map(frame),
        half_frames(),
        st.binary(max_size=20),
        st.builds(lambda size, rest: _HEADER.pack(size) + rest, _SIZES, st.binary(max_size=40)),
    ),
    max_size=6,
).map(b"".join)


def expected(stream: bytes) -> tuple[list[Plain], type[ChannelError]]:
    """Return the messages in ``stream``, and what must come after them if no more is sent."""
    found: list[Plain] = []
    while len(stream) >= _HEADER.size:
        (size,) = _HEADER.unpack_from(stream)
        if size > LIMIT:
            return found, ChannelError
        if len(stream) < _HEADER.size + size:
            break
        try:
            found.append(decode(stream[_HEADER.size : _HEADER.size + size]))
        except CodecError:
            return found, ChannelError
        stream = stream[_HEADER.size + size :]
    return found, Silent


def received(
    channel: Channel, seconds: float, limit: int = LIMIT
) -> tuple[list[Plain], type[ChannelError]]:
    """Return the messages that come, and how they end."""
    found: list[Plain] = []
    try:
        while True:
            found.append(channel.receive(seconds, limit))
    except ChannelError as error:
        return found, type(error)


@contextlib.contextmanager
def nothing_left_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counts itself both times
    yield
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor is left"  # noqa: PTH208


@fuzzed(200, stream=STREAMS, closes=st.booleans(), fds=st.integers(0, 6), at=st.integers(0, 400))
def test_a_stream_is_its_whole_messages_and_the_right_end(
    stream: bytes, closes: bool, fds: int, at: int
) -> None:
    with nothing_left_open():
        channel, other = pair()
        with contextlib.closing(channel), other, Path(__file__).open("rb") as file:
            other.sendall(stream[:at])
            if stream[at:]:
                sent = socket.send_fds(other, [stream[at:]], [file.fileno()] * fds)
                assert sent == len(stream[at:])
            if closes:
                other.close()
            messages, end = received(channel, 0.01)
    wanted, last = expected(stream)
    if fds <= 4 and not (fds and at < len(stream)):
        assert identical(messages, wanted)
        assert end is (Closed if closes and last is Silent else last)
    else:  # some descriptors are allowed beside a message, more end it
        assert identical(messages, wanted[: len(messages)])


@fuzzed(60, stream=STREAMS, cuts=st.lists(st.integers(0, 400), max_size=12), data=st.data())
def test_in_which_pieces_it_comes_does_not_matter(stream: bytes, cuts: Any, data: Any) -> None:
    places = [0, *sorted(cuts), len(stream)]
    pieces = [stream[one:other] for one, other in itertools.pairwise(places)]
    channel, other = pair()

    def send() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), other:
            for piece in pieces:
                other.sendall(piece)

    sender = threading.Thread(target=send)
    sender.start()
    with contextlib.closing(channel):
        messages, end = received(channel, 10)
    sender.join()
    wanted, last = expected(stream)
    assert identical(messages, wanted)
    assert end is (Closed if last is Silent else last)


@fuzzed(
    30,
    there=st.lists(PLAIN | st.integers(0, 9000).map(bytes), max_size=8),
    back=st.lists(PLAIN | st.integers(0, 9000).map(bytes), max_size=8),
)
def test_both_sides_may_talk_at_a_time(there: list[Plain], back: list[Plain]) -> None:
    """Through a buffer that holds less than one message."""
    channel, theirs = pair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    other = Channel(theirs)
    threads = [
        threading.Thread(target=lambda: [channel.send(value) for value in there]),
        threading.Thread(target=lambda: [other.send(value) for value in back]),
    ]
    came: dict[str, list[Plain]] = {}
    threads += [
        threading.Thread(target=lambda: came.update(there=[other.receive(10) for _ in there])),
        threading.Thread(target=lambda: came.update(back=[channel.receive(10) for _ in back])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.close()
    other.close()
    assert identical(came["there"], there)
    assert identical(came["back"], back)


TRICKLE = """
import socket, sys, time
to = socket.socket(fileno=int(sys.argv[1]))
to.sendall((2**25).to_bytes(4, "big"))
pause, piece = float(sys.argv[2]), bytes(int(sys.argv[3]))
while True:
    to.send(piece)
    if pause:
        time.sleep(pause)
"""


@contextlib.contextmanager
def trickling(pause: float, piece: int) -> Iterator[Channel]:
    """Yield a channel whose other side sends a long message, a few bytes at a time."""
    channel, other = pair()
    arguments = [str(other.fileno()), str(pause), str(piece)]
    command = [sys.executable, "-I", "-S", "-c", TRICKLE, *arguments]
    sender = subprocess.Popen(command, pass_fds=[other.fileno()], stderr=subprocess.DEVNULL)
    try:
        with contextlib.closing(channel), other:
            assert select.select([channel], [], [], 20)[0], "it has begun"
            yield channel
    finally:
        sender.kill()
        sender.wait()


@fuzzed(6, pause=st.sampled_from((0.0, 0.0001, 0.01)), piece=st.integers(1, 3))
def test_a_trickle_ends_when_its_time_is_up(pause: float, piece: int) -> None:
    """However fast it trickles: something is always there to be read, and never all of it."""
    with trickling(pause, piece) as channel:
        began = time.monotonic()
        assert received(channel, 0.1, 2**26) == ([], Silent)
        assert time.monotonic() - began < 2


@fuzzed(20, value=PLAIN, taken=st.integers(0, 3000), fill=st.integers(0, 20_000))
def test_a_side_that_stops_reading_is_given_up(value: Plain, taken: int, fill: int) -> None:
    channel, other = pair()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    message = [value, bytes(fill)]
    with contextlib.closing(channel), other:
        try:
            for _ in range(200):
                channel.send(message, seconds=0.02)
                other.recv(taken)
        except Silent:
            return
    assert 200 * len(encode(message)) < 400_000 + 200 * taken, "so much does not fit unread"

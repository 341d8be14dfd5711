"""Messages over a socket whose other side may be slow, silent or hostile."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.channel import Channel, ChannelError, Closed, Silent, pair
from verify.codec import CodecError


def test_messages_arrive_whole_and_in_order() -> None:
    channel, theirs = pair()
    other = Channel(theirs)
    sender = threading.Thread(
        target=lambda: [channel.send([n, b"x" * 3_000_000]) for n in range(5)]
    )
    sender.start()
    assert [other.receive(10)[0] for _ in range(5)] == list(range(5))  # type: ignore[index, call-overload]
    sender.join()


def test_a_channel_gives_up_on_half_a_message() -> None:
    channel, other = pair()
    other.sendall(struct.pack(">I", 100) + b"half")
    with pytest.raises(Silent):
        channel.receive(0.1)


class Dripping(socket.socket):
    """A socket that always has room and something to read: one byte."""

    def recvmsg(self, *how: object) -> tuple[bytes, list[object], int, None]:  # type: ignore[override]
        return b"\1", [], 0, None

    def sendmsg(self, *what: object) -> int:  # type: ignore[override]
        return 1


def test_a_message_that_trickles_ends_when_its_time_is_up() -> None:
    """Also if there is never a moment in which nothing can be read, or written."""
    ours, other = socket.socketpair()
    other.send(b"x")
    channel = Channel(Dripping(fileno=ours.detach()))
    began = time.monotonic()
    with pytest.raises(Silent):
        channel.receive(0.2)
    with pytest.raises(Silent):
        channel.send(bytes(20_000_000), seconds=0.2)
    assert time.monotonic() - began < 2


def test_a_message_that_is_there_is_taken_though_time_is_up() -> None:
    channel, other = pair()
    Channel(other).send("there")
    assert channel.receive(0) == "there"


def test_descriptors_that_nobody_asked_for_are_closed() -> None:
    channel, other = pair()
    before = _open()
    with Path(__file__).open() as file:
        Channel(other).send({"a": 1}, [file.fileno()] * 4)
        channel.receive(1)
    assert _open() == before


def _open() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counts itself both times


def test_a_descriptor_can_be_handed_over() -> None:
    channel, other = pair()
    with Path(__file__).open("rb") as file:
        Channel(other).send(None, [file.fileno()])
    _, (fd,) = channel.receive_with_fds(1)
    with open(fd, "rb") as handed:  # noqa: PTH123 - it is a descriptor
        assert handed.read() == Path(__file__).read_bytes()


def test_an_announced_size_over_the_limit_is_refused_unread() -> None:
    channel, other = pair()
    other.sendall(struct.pack(">I", 101))
    with pytest.raises(ChannelError, match="over the limit of 100"):
        channel.receive(1, max_bytes=100)


def test_a_reader_that_never_reads_is_given_up() -> None:
    channel, _other = pair()
    with pytest.raises(Silent):
        channel.send(b"x" * 10_000_000, seconds=0.2)


def test_a_side_that_left_is_told_apart_from_a_silent_one() -> None:
    channel, other = pair()
    other.close()
    with pytest.raises(Closed):
        channel.receive(1)
    with pytest.raises(Closed):
        channel.send(b"x" * 10_000_000)


def test_what_is_not_plain_is_the_senders_error_and_nothing_is_sent() -> None:
    channel, other = pair()
    with pytest.raises(CodecError):
        channel.send(object())  # type: ignore[arg-type]
    Channel(other).send("still there")
    assert channel.receive(1) == "still there"


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_value_or_a_channel_error(sent: bytes) -> None:
    channel, other = pair()
    other.sendall(sent)
    other.close()
    try:
        while True:
            channel.receive(1)
    except ChannelError:
        channel.close()

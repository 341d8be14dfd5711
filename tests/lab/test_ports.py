"""A port in use is named with who has it, and with one that is free."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from verify.lab import ports
from verify.lab.problems import Misuse

LISTEN = (
    "import socket, sys; s = socket.socket(socket.{family}); s.bind(('{address}', 0)); s.listen();"
    "print(s.getsockname()[1], flush=True); sys.stdin.read()"
)


@pytest.fixture(params=[("AF_INET", "127.0.0.1"), ("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
def stranger(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The process id and port of a program that listens."""
    family, address = request.param
    command = [sys.executable, "-c", LISTEN.format(family=family, address=address)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.pid, int(process.stdout.readline())
    process.kill()
    process.communicate()


def test_who_listens_is_named_with_what_to_type(stranger: tuple[int, int]) -> None:
    pid, port = stranger
    assert not ports.is_free(port)
    who = ports.listener(port)
    assert who is not None
    assert who.pid == pid
    assert ports.listens(pid, port)
    assert not ports.listens(os.getpid(), port)
    *_, cause, command = ports.in_use(port).lines()
    assert f"process {pid}" in cause
    offered = re.fullmatch(r"Type: invoke lab\.up --port (\d+)", command)
    assert offered
    assert ports.is_free(int(offered[1]))


def test_a_port_that_nobody_has_is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert ports.is_free(port)
    assert ports.listener(port) is None


def test_a_port_whose_owner_cannot_be_seen_is_another_users(
    stranger: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_descriptors", lambda _process: set())
    assert "another user" in ports.in_use(stranger[1]).cause


@pytest.mark.parametrize("text", ["", "x", "80", "-1", "65536", "1e4", "8888 "])
def test_what_is_no_port_is_a_misuse(text: str) -> None:
    with pytest.raises(Misuse) as caught:
        ports.parse_port(text)
    assert caught.value.code == 2
    assert ports.parse_port("8889") == 8889

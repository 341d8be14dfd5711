"""The engine is looked for where Docker's own command line looks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from verify.lab import engine_address

ELSEWHERE = "unix:///run/user/1000/docker.sock"


@pytest.fixture
def context(tmp_path: Path) -> dict[str, str]:
    """An environment whose Docker has a context `rootless`, made as Docker makes it."""
    if shutil.which("docker") is None:
        pytest.skip("the docker command is not installed")
    environment = {"PATH": os.environ["PATH"], "DOCKER_CONFIG": str(tmp_path)}
    command = ["docker", "context", "create", "rootless", "--docker", f"host={ELSEWHERE}"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return environment


def test_without_a_word_it_is_where_it_always_is(tmp_path: Path) -> None:
    assert engine_address.find({"DOCKER_CONFIG": str(tmp_path)}) == "unix:///var/run/docker.sock"


def test_the_context_in_use_says_where(context: dict[str, str]) -> None:
    assert engine_address.find(context) == engine_address.DEFAULT
    subprocess.run(
        ["docker", "context", "use", "rootless"], env=context, check=True, capture_output=True
    )
    assert engine_address.find(context) == ELSEWHERE
    assert engine_address.find(context | {"DOCKER_CONTEXT": "default"}) == engine_address.DEFAULT


def test_a_variable_names_another_context(context: dict[str, str]) -> None:
    assert engine_address.find(context | {"DOCKER_CONTEXT": "rootless"}) == ELSEWHERE


def test_docker_host_goes_before_every_context(context: dict[str, str]) -> None:
    both = context | {"DOCKER_CONTEXT": "rootless", "DOCKER_HOST": "tcp://127.0.0.1:2375"}
    assert engine_address.find(both) == "tcp://127.0.0.1:2375"


def test_the_sdk_is_told_the_same(context: dict[str, str]) -> None:
    told = engine_address.variables(context | {"DOCKER_CONTEXT": "rootless"})
    assert told["DOCKER_HOST"] == ELSEWHERE
    assert told["PATH"] == context["PATH"]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"currentContext": "gone"})])
def test_a_configuration_that_says_nothing_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert engine_address.find({"DOCKER_CONFIG": str(tmp_path)}) == engine_address.DEFAULT


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [
        (engine_address.DEFAULT, False),
        (ELSEWHERE, False),
        ("tcp://127.0.0.1:2375", False),
        ("tcp://localhost:2375", False),
        ("tcp://[::1]:2375", False),
        ("tcp://192.0.2.7:2376", True),
        ("tcp://build.example:2376", True),
        ("ssh://me@build.example", True),
    ],
)
def test_another_machine_is_told_from_this_one(address: str, elsewhere: bool) -> None:
    assert engine_address.is_elsewhere(address) is elsewhere


def test_a_knock_is_heard_where_somebody_listens_and_nowhere_else(tmp_path: Path) -> None:
    place = tmp_path / "it.sock"
    with pytest.raises(FileNotFoundError):
        engine_address.knock(place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        with pytest.raises(ConnectionRefusedError) as caught:
            engine_address.knock(place)
        assert caught.value.errno == errno.ECONNREFUSED
        listener.listen()
        engine_address.knock(place)


def test_only_some_addresses_are_sockets() -> None:
    assert engine_address.socket_of(ELSEWHERE) == Path("/run/user/1000/docker.sock")
    assert engine_address.socket_of("tcp://127.0.0.1:2375") is None

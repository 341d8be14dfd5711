"""What the Docker engine says of itself is read as it says it, and why where none answers."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.lab.machines import engine, info, needs_engine, needs_root
from verify.lab import engine as module
from verify.lab import engine_address
from verify.lab.engine import Engine, ask, look
from verify.lab.engine_troubles import NoEngine, numbers, shortfalls

SPARE = "unix:///run/user/1000/docker.sock"


def why_not(address: str) -> NoEngine:
    with pytest.raises(NoEngine) as caught:
        ask(address)
    assert caught.value.cause
    assert caught.value.type_this
    return caught.value


class TestWhatItSays:
    def test_a_recent_one_lists_the_devices_it_knows(self) -> None:
        found = engine("docker-28-cdi")
        assert found.version == "28.5.2+dfsg4"
        assert found.cdi_devices == {"nvidia.com/gpu=0", "nvidia.com/gpu=all"}
        assert found.cdi_folders == ("/etc/cdi",)
        assert "nvidia" in found.runtimes
        assert found.lists_devices

    def test_an_older_one_does_not_though_cdi_is_on(self) -> None:
        found = engine("docker-26-cdi")
        assert found.cdi_folders == ("/etc/cdi",)
        assert not found.cdi_devices
        assert not found.lists_devices

    def test_where_cdi_is_off_no_folder_is_looked_in(self) -> None:
        assert engine("docker-26").cdi_folders == ()
        assert "nvidia" not in engine("docker-26").runtimes

    def test_it_complains_of_a_specification_that_it_rejects(self) -> None:
        found = engine("docker-28-spec-rejected")
        assert not found.cdi_devices
        assert "invalid CDI Spec" in found.warnings[0]

    def test_the_rest(self) -> None:
        found = engine("docker-26")
        assert (found.architecture, found.cgroup, found.system) == ("amd64", "1", "linux")
        assert found.security == {"seccomp"}
        assert not found.rootless
        assert engine(Architecture="aarch64").architecture == "arm64"

    def test_a_rootless_one_is_known_by_its_security_options(self) -> None:
        options = ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]
        assert engine(SecurityOptions=options).rootless

    @pytest.mark.parametrize(
        ("printed", "version"),
        [("2.26.1-4\n", "2.26.1-4"), ("v2.30.3-desktop.1\n", "2.30.3-desktop.1"), (None, None)],
    )
    def test_compose(self, printed: str | None, version: str | None) -> None:
        told = {"Version": "28.5.2", "ApiVersion": "1.51"}
        found = module.read(SPARE, info("docker-26"), told, printed, None)
        assert (found.compose, found.buildx) == (version, None)

    def test_buildx(self) -> None:
        told = {"Version": "28.5.2", "ApiVersion": "1.51"}
        printed = "github.com/docker/buildx v0.13.1 0de5f1c\n"
        assert module.read(SPARE, info("docker-26"), told, None, printed).buildx == "0.13.1"

    @pytest.mark.parametrize(
        ("version", "expected"),
        [("26.1.5+dfsg1", (26, 1, 5)), ("v2.30.3-desktop.1", (2, 30, 3)), ("dev", ())],
    )
    def test_a_version_is_compared_by_its_numbers(
        self, version: str, expected: tuple[int, ...]
    ) -> None:
        assert numbers(version) == expected


class TestARealOne:
    @needs_engine
    def test_says_what_docker_info_says(self) -> None:
        command = ["docker", "info", "--format", "{{json .}}"]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        found = look()
        assert isinstance(found, Engine)
        assert found.version == told["ServerVersion"]
        assert found.cgroup == told["CgroupVersion"]
        assert found.runtimes == set(told["Runtimes"])
        plugins = {it["Name"]: it.get("Version", "") for it in told["ClientInfo"]["Plugins"] or ()}
        assert (found.compose is None) == ("compose" not in plugins)
        assert (found.buildx is None) == ("buildx" not in plugins)

    @needs_engine
    @needs_root
    def test_refuses_a_user_who_is_not_in_its_group(self) -> None:
        socket_of_it = engine_address.socket_of(engine_address.find())
        if socket_of_it is None or socket_of_it.stat().st_mode & 0o006:
            pytest.skip("this engine's socket is for everybody")
        pid = os.fork()
        if pid == 0:
            told = False
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                found = look()
                told = isinstance(found, NoEngine) and "usermod -aG docker" in found.type_this
            finally:
                os._exit(0 if told else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class TestWhereNoneAnswers:
    def test_docker_is_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        none = why_not(f"unix://{tmp_path}/docker.sock")
        assert "not installed" in none.happened
        assert "--runtime local" in none.type_this
        assert not none.installed

    def test_it_is_installed_and_does_not_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "docker").touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(engine_address, "DEFAULT", f"unix://{tmp_path}/docker.sock")
        none = why_not(engine_address.DEFAULT)
        assert "does not run" in none.happened
        assert "sudo systemctl start docker" in none.type_this
        assert none.installed

    def test_the_one_of_this_user_does_not_run(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as ended:
            ended.bind(f"{tmp_path}/docker.sock")
            none = why_not(f"unix://{tmp_path}/docker.sock")
        assert str(tmp_path) in none.happened
        assert "systemctl --user" in none.type_this

    def test_nobody_listens_at_a_port(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            none = why_not(f"tcp://127.0.0.1:{unused.getsockname()[1]}")
        assert "gives no answer" in none.happened

    def test_somebody_listens_and_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_SECONDS", 0.3)
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            assert (
                "gives no answer" in why_not(f"tcp://127.0.0.1:{silent.getsockname()[1]}").happened
            )

    def test_somebody_listens_who_is_no_engine(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            threading.Thread(target=_answer_nonsense, args=(other,), daemon=True).start()
            assert (
                "gives no answer" in why_not(f"tcp://127.0.0.1:{other.getsockname()[1]}").happened
            )

    def test_one_behind_ssh_is_another_machines(self) -> None:
        assert "another machine" in why_not("ssh://me@build.example").happened

    def test_the_sdk_is_not_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "docker", None)
        none = why_not("tcp://127.0.0.1:1")
        assert "library docker is missing" in none.happened
        assert none.type_this == "pip install -e ."

    def test_the_sdk_is_not_imported_for_nothing(self, tmp_path: Path) -> None:
        program = (
            "import sys; from verify.lab import engine; none = engine.look(); "
            "print(type(none).__name__, 'docker' in sys.modules, 'requests' in sys.modules)"
        )
        environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["NoEngine", "False", "False"]


class TestWhatTheLabNeeds:
    def test_a_recent_one_is_enough(self) -> None:
        assert shortfalls(engine()) == []

    @pytest.mark.parametrize(
        ("other", "happened"),
        [
            ({"version": "24.0.9"}, "24.0.9 is too old: the lab's containers need 25.0"),
            ({"compose": "2.25.1"}, "2.25.1 is too old: the lab needs 2.26"),
            ({"compose": None}, "no Docker Compose"),
            ({"system": "windows"}, "Windows containers"),
            ({"address": "tcp://192.0.2.7:2376"}, "another machine (tcp://192.0.2.7:2376)"),
        ],
    )
    def test_what_is_short_is_said(self, other: dict[str, Any], happened: str) -> None:
        (problem,) = shortfalls(_with(other))
        assert happened in problem.happened
        assert problem.cause
        assert problem.type_this

    @pytest.mark.parametrize("other", [{"version": "25.0.0"}, {"compose": "2.26.0"}])
    def test_the_floors_themselves_are_enough(self, other: dict[str, Any]) -> None:
        assert shortfalls(_with(other)) == []


def _with(other: dict[str, Any]) -> Engine:
    return dataclasses.replace(engine(), **other)


def _answer_nonsense(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

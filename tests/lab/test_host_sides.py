"""What the client looks at of its own side: hub, disks, the workspace's owner, Jupyter's doors."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.machines import NO_DOCKER, engine, needs_root, seen
from verify.lab import exposure, host_room, hub, owner, ports
from verify.lab.layout import Layout
from verify.lab.problems import Problem
from verify.lab.processes import Identity
from verify.lab.view import Finding, View
from verify.machine import Advice


def view(folder: Path, runtime: str = "local", found: Any = NO_DOCKER, **environ: str) -> View:
    layout = Layout(folder)
    layout.workspace.mkdir(exist_ok=True)
    return View(seen(found), layout, runtime, environ={"HOME": str(folder), **environ})


def kind(found: Finding) -> str:
    if isinstance(found, Problem):
        assert found.cause
        assert found.type_this
        return "advice" if isinstance(found, Advice) else "problem"
    return "nothing" if found is None else "holds"


# --------------------------------------------------------------------------------- the workspace
def test_another_users_workspace_is_not_judged_for_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks at a node need not be who works there."""
    monkeypatch.setattr(owner.os, "geteuid", lambda: 65534)
    assert kind(owner.workspace(view(tmp_path, "node"))) == "nothing"


def test_a_workspace_that_is_mounted_read_only_is_no_good_even_to_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner.os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    found = owner.workspace(view(tmp_path, "node"))
    assert kind(found) == "problem"
    assert isinstance(found, Problem)
    assert found.type_this.startswith("findmnt")


def test_a_place_for_models_is_looked_at_once(tmp_path: Path) -> None:
    """By the runner's half, where that is of this machine."""
    places = {
        name: [what for what, _ in host_room._places(view(tmp_path, name))]
        for name in ("compose", "local", "node")
    }
    assert "models" in places["compose"]
    assert "models" not in places["local"] + places["node"]


# ------------------------------------------------------------------------------------- the hub
def test_switches_that_disagree_are_told_once(tmp_path: Path) -> None:
    disagreeing = view(tmp_path, HF_HUB_OFFLINE="0", TRANSFORMERS_OFFLINE="1")
    assert kind(hub.switches(disagreeing)) == "advice"
    assert kind(hub.reachable(disagreeing)) == "nothing"


def test_a_place_that_is_no_address_is_told(tmp_path: Path) -> None:
    found = hub.reachable(view(tmp_path, HF_ENDPOINT="hf-mirror.com"))
    assert isinstance(found, Advice)
    assert "unknown url type" in found.happened


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "holds"),
        ({"HF_HUB_OFFLINE": "1"}, "holds"),
        ({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "true"}, "holds"),
        ({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "0"}, "advice"),
        ({"TRANSFORMERS_OFFLINE": "1"}, "advice"),
        ({"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "1"}, "advice"),
        ({"HF_HUB_OFFLINE": "0"}, "holds"),
    ],
)
def test_offline_switches_must_agree(
    tmp_path: Path, environ: dict[str, str], expected: str
) -> None:
    assert kind(hub.switches(view(tmp_path, **environ))) == expected


def test_the_switches_that_disagree_are_named(tmp_path: Path) -> None:
    found = hub.switches(view(tmp_path, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="0"))
    assert isinstance(found, Advice)
    assert (
        "HF_HUB_OFFLINE declares this machine offline, and TRANSFORMERS_OFFLINE" in found.happened
    )
    assert found.type_this.startswith("unset TRANSFORMERS_OFFLINE")


@pytest.mark.parametrize(
    ("behind", "trouble", "expected"),
    [
        (None, "", "holds"),
        (0, "", "holds"),
        (3600, "", "advice"),
        (None, "Name or service not known", "advice"),
    ],
)
def test_a_hub_answers_in_time_or_is_advice(
    tmp_path: Path, behind: int | None, trouble: str, expected: str
) -> None:
    def answer(_: str) -> hub.Answer:
        return hub.Answer(None if behind is None else time.time() - behind, trouble)

    assert kind(hub.reachable(view(tmp_path), answer)) == expected


def test_a_machine_that_is_declared_offline_asks_nobody(tmp_path: Path) -> None:
    def never(_: str) -> hub.Answer:
        raise AssertionError("asked")

    assert kind(hub.reachable(view(tmp_path, HF_HUB_OFFLINE="1"), never)) == "holds"


class _Forbids(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Forbids) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made.server_port
        made.shutdown()


def test_a_mirror_of_ones_own_is_really_asked(
    tmp_path: Path, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    place = f"http://127.0.0.1:{server}"
    assert hub.reachable(view(tmp_path, HF_ENDPOINT=place)) == f"{place} answers"


def test_nobody_is_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_SECONDS", 0.2)
    monkeypatch.setattr(hub, "_ask", lambda _: time.sleep(5))
    began = time.monotonic()
    found = hub.reachable(view(tmp_path))
    assert time.monotonic() - began < 2
    assert kind(found) == "advice"


# --------------------------------------------------------------------------------------- disks
@pytest.mark.parametrize(
    ("free", "files", "expected"),
    [
        (host_room.GIB - 1, 10**6, "problem"),
        (host_room.GIB, 10**6, "advice"),
        (20 * host_room.GIB, 10**6, "holds"),
        (20 * host_room.GIB, 10, "problem"),
        (20 * host_room.GIB, 2_000, "advice"),
    ],
)
def test_room_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, files: int, expected: str
) -> None:
    said = SimpleNamespace(f_frsize=1, f_blocks=9**20, f_bavail=free, f_files=9, f_favail=files)
    monkeypatch.setattr(host_room.os, "statvfs", lambda _: said)
    assert kind(host_room.disks(view(tmp_path))) == expected


def test_dockers_disk_is_looked_at_where_it_is_this_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "docker"
    full.mkdir()

    def said(folder: Path) -> Any:
        free = 100 if folder == full else 50 * host_room.GIB
        return SimpleNamespace(f_frsize=1, f_blocks=9**20, f_bavail=free, f_files=0, f_favail=0)

    monkeypatch.setattr(host_room.os, "statvfs", said)
    found = host_room.disks(view(tmp_path, found=engine("docker-28-cdi", DockerRootDir=str(full))))
    assert isinstance(found, Problem)
    assert f"for Docker's images in {full}" in found.happened
    assert "docker system df" in found.type_this
    assert kind(host_room.disks(view(tmp_path, found=engine("docker-28-cdi")))) == "holds"


# --------------------------------------------------------------------------------------- owner
def test_a_workspace_of_ones_own_holds(tmp_path: Path) -> None:
    there = view(tmp_path)
    (there.layout.workspace / "memory").mkdir()
    (there.layout.workspace / "memory" / "exercise.py").touch()
    (there.layout.workspace / "away").symlink_to("/etc/shadow")
    assert kind(owner.workspace(there)) == "holds"


@needs_root
@pytest.mark.parametrize("runtime", ["compose"])
def test_a_file_of_another_user_is_named(tmp_path: Path, runtime: str) -> None:
    there = view(tmp_path, runtime)
    os.chown(there.layout.workspace, 1000, 1000)
    file = there.layout.workspace / "exercise.py"
    file.touch()  # root's, as after a sudo
    found = owner.workspace(there)
    assert isinstance(found, Problem)
    assert f"{file} cannot be written by JupyterLab's user (1000)" in found.happened
    assert "sudo chown -R 1000" in found.type_this
    os.chown(file, 1000, 1000)
    assert kind(owner.workspace(there)) == "holds"


def test_a_file_that_its_owner_may_not_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = view(tmp_path)
    file = there.layout.workspace / "exercise.py"
    file.touch(mode=0o400)
    monkeypatch.setattr(owner.os, "geteuid", lambda: 4242)
    monkeypatch.setattr(owner.os, "access", lambda path, _: path != file)
    assert kind(owner.workspace(there)) == "problem"


def test_without_a_workspace_there_is_nothing_to_say(tmp_path: Path) -> None:
    there = view(tmp_path)
    there.layout.workspace.rmdir()
    assert kind(owner.workspace(there)) == "nothing"


# ------------------------------------------------------------------------------------- Jupyter
@pytest.fixture
def listening() -> Iterator[tuple[int, str]]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made.getsockname()[1], "127.0.0.1"


def jupyter_at(patch: pytest.MonkeyPatch, port: int, status: int | None) -> None:
    there = Identity(os.getpid(), 0, "", port)
    patch.setattr(exposure.jupyter, "service", lambda _: SimpleNamespace(running=lambda: there))
    patch.setattr(exposure.jupyter, "ask", lambda *_: status)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_where_anybody_listens_is_read(address: str) -> None:
    with socket.create_server((address, 0)) as made:
        assert ports.addresses(made.getsockname()[1]) == [address]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000000000000000000001000000", "::1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
def test_an_address_as_the_kernel_writes_it_is_read(
    monkeypatch: pytest.MonkeyPatch, written: str, address: str
) -> None:
    monkeypatch.setattr(ports.sys, "byteorder", "little")
    assert str(ports._address(written)) == address


@pytest.mark.parametrize(("status", "expected"), [(403, "holds"), (200, "problem")])
def test_jupyterlab_must_want_its_token(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listening: tuple[int, str],
    status: int,
    expected: str,
) -> None:
    jupyter_at(monkeypatch, listening[0], status)
    assert kind(exposure.jupyterlab(view(tmp_path))) == expected


def test_jupyterlab_that_others_can_reach_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("0.0.0.0", 0)) as made:
        jupyter_at(monkeypatch, made.getsockname()[1], 403)
        found = exposure.jupyterlab(view(tmp_path))
    assert isinstance(found, Problem)
    assert found.happened == "JupyterLab listens on 0.0.0.0: others can reach it."


@pytest.mark.parametrize(("address", "expected"), [("127.0.0.1", "holds"), ("0.0.0.0", "problem")])
def test_a_containers_port_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, expected: str
) -> None:
    bound = {"8888/tcp": [{"HostIp": address, "HostPort": "8888"}], "9/tcp": None}
    monkeypatch.setattr(
        exposure.containers, "of", lambda _: {"jupyter": SimpleNamespace(ports=bound)}
    )
    monkeypatch.setattr(exposure.jupyter, "ask", lambda *_: 403)
    there = view(tmp_path, "compose", engine("docker-28-cdi"))
    assert kind(exposure.jupyterlab(there)) == expected


def test_no_jupyterlab_is_nothing_to_say(tmp_path: Path) -> None:
    assert kind(exposure.jupyterlab(view(tmp_path))) == "nothing"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"hostname": "localhost", "token": "x"}, "holds"),
        ({"hostname": "0.0.0.0", "token": "x"}, "advice"),
        ({"hostname": "localhost", "token": ""}, "advice"),
        ({"hostname": "localhost", "token": "", "password": True}, "holds"),
    ],
)
def test_other_servers_of_this_user(tmp_path: Path, told: dict[str, Any], expected: str) -> None:
    folder = tmp_path / ".local/share/jupyter/runtime"
    folder.mkdir(parents=True)
    (folder / "jpserver-1.json").write_text(json.dumps({"pid": os.getpid(), "port": 1, **told}))
    ended = subprocess.Popen(["true"])
    ended.wait()
    (folder / "jpserver-2.json").write_text(json.dumps({"pid": ended.pid, "token": ""}))
    (folder / "jpserver-3.json").write_text("{")
    assert kind(exposure.others(view(tmp_path))) == expected

"""JupyterLab's door: the token is kept to itself, and a server without one is not accepted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from verify.lab import jupyter
from verify.lab.layout import Layout
from verify.lab.problems import Problem
from verify.lab.processes import Identity, identify

# A server that answers every request with the status in its argument, and notes what it is told.
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("told", self.headers.get("Authorization"), flush=True)
        self.send_response({status})
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Handler)
print("serving", server.server_port, flush=True)
server.serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(autouse=True)
def nothing_left(layout: Layout) -> Iterator[None]:
    yield
    jupyter.service(layout).stop(grace=2)


def serve(layout: Layout, port: int, status: int) -> Identity:
    """Start the server as if it were this lab's JupyterLab."""
    command = [sys.executable, "-u", "-c", SERVER.format(port=port, status=status)]
    return jupyter.service(layout).start(command, os.environ, layout.workspace, port)


def test_the_token_is_drawn_once_and_is_the_owners_alone(layout: Layout) -> None:
    token = jupyter.token(layout)
    assert len(token) >= 32
    assert jupyter.token(layout) == token
    assert layout.token.stat().st_mode & 0o777 == 0o600
    layout.token.write_text("")
    assert jupyter.token(layout) not in ("", token)


def test_the_command_line_keeps_the_token_and_opens_nothing(layout: Layout) -> None:
    words = jupyter.command(layout, 8888)
    assert jupyter.token(layout) not in " ".join(words)
    for option in (
        "ServerApp.ip=127.0.0.1",
        "ServerApp.port=8888",
        "ServerApp.port_retries=0",
        "ServerApp.allow_unauthenticated_access=False",
        "ServerApp.allow_remote_access=False",
        f"ServerApp.root_dir={layout.workspace}",
    ):
        assert f"--{option}" in words


@pytest.mark.parametrize(("uid", "allowed"), [(0, "True"), (1000, "False")])
def test_root_is_allowed_only_to_root(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, uid: int, allowed: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert f"--ServerApp.allow_root={allowed}" in jupyter.command(layout, 8888)


def test_other_jupyters_and_pythons_do_not_reach_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_TOKEN", "JUPYTERLAB_DIR", "PYTHONPATH", "IPYTHONDIR", "CONDA_PREFIX"):
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setenv("LANG", "C.UTF-8")
    env = jupyter.environment(layout)
    assert "foreign" not in env.values()
    assert jupyter.token(layout) not in env.values()
    assert env["LANG"] == "C.UTF-8"
    assert env["PATH"].split(":")[0] == str(layout.venv / "bin")
    assert env["JUPYTER_TOKEN_FILE"] == str(layout.token)


def test_a_server_that_lets_everybody_in_is_stopped(layout: Layout, port: int) -> None:
    jupyter.token(layout)
    identity = serve(layout, port, 200)
    with pytest.raises(Problem, match="answers 200 to somebody without the token"):
        jupyter.wait(layout, identity)
    assert identify(identity.pid) is None


def test_a_server_that_ends_at_once_shows_its_last_words(layout: Layout, port: int) -> None:
    command = [sys.executable, "-c", "print('I cannot'); raise SystemExit(1)"]
    identity = jupyter.service(layout).start(command, os.environ, Path("/"), port)
    with pytest.raises(Problem, match="ended while it started") as caught:
        jupyter.wait(layout, identity)
    assert "I cannot" in caught.value.happened
    assert caught.value.type_this == "invoke lab.logs --service jupyter"


def test_a_server_that_never_accepts_the_token(
    layout: Layout, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jupyter, "_START_SECONDS", 1.0)
    jupyter.token(layout)
    with pytest.raises(Problem, match="gave no answer within"):
        jupyter.wait(layout, serve(layout, port, 403))


def test_a_lost_record_is_found_again_only_by_the_token(layout: Layout, port: int) -> None:
    assert jupyter.adopt(layout, port) is None
    jupyter.token(layout)
    identity = serve(layout, port, 200)
    while not jupyter.answers(layout, identity):
        pass
    layout.record("jupyter").unlink()
    assert jupyter.adopt(layout, port) == identity
    assert jupyter.service(layout).running() == identity


def test_the_token_is_not_told_to_another_who_has_the_port(layout: Layout, port: int) -> None:
    """Another process took the port between our look at it and our server's start."""
    key = jupyter.token(layout)
    identity = serve(layout, port, 200)
    while not jupyter.answers(layout, identity):
        pass
    ours = identify(os.getpid(), port)
    assert ours is not None
    before = jupyter.service(layout).log.read_text().count(key)
    assert not jupyter.answers(layout, ours)
    assert jupyter.service(layout).log.read_text().count(key) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_users_server_is_not_asked_with_the_token(
    layout: Layout, port: int, tmp_path: Path
) -> None:
    key = jupyter.token(layout)
    command = [sys.executable, "-u", "-c", SERVER.format(port=port, status=200)]
    with subprocess.Popen(command, user=65534, group=65534, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert b"serving" in other.stdout.readline()
        assert jupyter.adopt(layout, port) is None
        other.terminate()
        assert key.encode() not in other.stdout.read()


def test_a_port_in_use_starts_nothing(layout: Layout, port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(Problem, match=f"Port {port} of 127.0.0.1 is in use"):
            jupyter.start(layout, port)
    assert jupyter.service(layout).running() is None


def test_the_address_has_the_token_only_where_it_is_asked_for() -> None:
    assert jupyter.url(8888) == "http://127.0.0.1:8888/lab/tree/README.md"
    assert jupyter.url(8888, "key") == "http://127.0.0.1:8888/lab/tree/README.md?token=key"

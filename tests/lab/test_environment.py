"""Environments made for real by pip from small wheels: made, kept, resumed, mended, refused."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import alive
from tests.lab.conftest import Said, make_wheel
from verify.lab import diagnosis, environment, interpreter, locks, pip
from verify.lab.following import Following, following
from verify.lab.layout import Layout
from verify.lab.problems import Problem

PROJECT = Path(__file__).parents[2]
CPU = locks.Variant("cpu", "a test says so", 1)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with a pip, as the one beside Invoke usually is."""
    venv = tmp_path_factory.mktemp("host") / "venv"
    subprocess.run([sys.executable, "-I", "-m", "venv", venv], check=True)
    return venv / "bin" / "python"


@pytest.fixture
def wheels(layout: Layout, host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only index there is, and locks for them."""
    told = subprocess.check_output([host, "-m", "pip", "--version"], text=True).split()[1]
    monkeypatch.setattr(pip.importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(pip.importlib.metadata, "version", lambda _name: told)
    monkeypatch.setattr(pip.sys, "executable", str(host))
    folder = tmp_path / "wheels"
    layout.locks.mkdir(parents=True)
    for lock, name in (("torch-cpu", "tinytorch"), ("lab", "tinylab"), ("test", "tinytest")):
        (layout.locks / f"{lock}.lock").write_text(make_wheel(folder, name, "1.0"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(locks, "find_variant", lambda _: CPU)
    own = interpreter.Choice(interpreter.this())
    monkeypatch.setattr(interpreter, "choose", lambda: own)
    return folder


def has(layout: Layout, module: str) -> bool:
    command = [layout.python, "-I", "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unreadable(layout: Layout) -> list[Path]:
    """Return the modules and folders that another user cannot read."""
    found = [path for path in layout.venv.rglob("*") if path.is_dir() or path.suffix == ".py"]
    return [path for path in (layout.venv, *found) if path.stat().st_mode & 0o004 == 0]


def listed(layout: Layout) -> float:
    return (layout.venv / "made-from.json").stat().st_mtime_ns


def test_made_once_and_kept(layout: Layout, wheels: Path, said: Said) -> None:
    assert not environment.is_ready(layout)
    line = environment.make(layout, said)
    assert "torch for cpu (a test says so), 2 packages" in line
    assert environment.is_ready(layout)
    assert has(layout, "tinytorch, tinylab")
    assert not has(layout, "tinytest")
    made = listed(layout)
    assert environment.make(layout, said) == line
    assert listed(layout) == made
    assert "Successfully installed tinylab-1.0" in layout.install_log.read_text()


def test_the_project_is_importable_without_an_environment_variable(
    layout: Layout, wheels: Path, said: Said
) -> None:
    environment.make(layout, said)
    (layout.root / "in_the_project.py").touch()
    assert has(layout, "in_the_project")


def test_the_libraries_can_be_read_by_other_users(layout: Layout, wheels: Path, said: Said) -> None:
    before = os.umask(0o077)
    try:
        environment.make(layout, said)
    finally:
        os.umask(before)
    assert not unreadable(layout)


def test_the_test_libraries_come_on_top(layout: Layout, wheels: Path, said: Said) -> None:
    environment.make(layout, said)
    assert not environment.is_ready(layout, tests=True)
    said.buffer.truncate(0)
    environment.make(layout, said, tests=True)
    assert "lab.lock" not in said.text
    assert has(layout, "tinytest")
    assert environment.is_ready(layout, tests=True)
    assert environment.is_ready(layout)


def test_another_lock_makes_another_environment(layout: Layout, wheels: Path, said: Said) -> None:
    environment.make(layout, said)
    (layout.locks / "lab.lock").write_text(make_wheel(wheels, "newlab", "2.0"))
    assert not environment.is_ready(layout)
    environment.make(layout, said)
    assert has(layout, "newlab")
    assert not has(layout, "tinylab")


def test_an_environment_whose_python_is_gone_is_made_anew(
    layout: Layout, wheels: Path, said: Said
) -> None:
    environment.make(layout, said)
    layout.python.unlink()
    layout.python.symlink_to("/no/such/python")
    assert not environment.is_ready(layout)
    environment.make(layout, said)
    assert has(layout, "tinylab")


def test_a_moved_project_is_made_anew(layout: Layout, wheels: Path, said: Said) -> None:
    environment.make(layout, said)
    moved = Layout(layout.root.with_name("moved"))
    layout.root.rename(moved.root)
    assert not environment.is_ready(moved)
    environment.make(moved, said)
    assert str(moved.venv) in (moved.venv / "pyvenv.cfg").read_text()


def test_what_an_interrupted_run_left_is_kept_and_mended(
    layout: Layout, wheels: Path, said: Said
) -> None:
    """Killed while it wrote a package: its files are partly there, RECORD is not."""
    environment.make(layout, said)
    site = next(layout.venv.glob("lib/python*/site-packages"))
    (layout.venv / "made-from.json").unlink()
    (site / "tinylab-1.0.dist-info" / "RECORD").unlink()
    (site / "tinylab.py").unlink()
    kept = (site / "tinytorch.py").stat().st_ino
    assert not environment.is_ready(layout)
    environment.make(layout, said)
    assert has(layout, "tinylab")
    assert (site / "tinytorch.py").stat().st_ino == kept


def test_ctrl_c_ends_pip_and_the_next_run_goes_on(
    layout: Layout, wheels: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    @contextlib.contextmanager
    def interrupted(*command: Any, **how: Any) -> Iterator[Following]:
        with following(*command, **how) as process:
            started.append(process.pid)
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
            yield process

    with monkeypatch.context() as patched:
        patched.setattr(pip, "following", interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.make(layout, said)
    assert started
    assert not alive(started[0])
    assert not environment.is_ready(layout)
    environment.make(layout, said)
    assert has(layout, "tinylab")


def test_a_file_with_another_hash_is_refused(layout: Layout, wheels: Path, said: Said) -> None:
    make_wheel(wheels, "tinylab", "1.0", text="EVIL = True\n")
    with pytest.raises(Problem, match=r"tinylab==1\.0 is not the file that lab\.lock names"):
        environment.make(layout, said)
    assert not has(layout, "tinylab")
    assert not environment.is_ready(layout)


def test_an_index_that_nobody_reaches(
    layout: Layout, wheels: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", address)
        monkeypatch.setenv("PIP_RETRIES", "1")
        monkeypatch.setattr(locks, "CPU_INDEX", address)
        with pytest.raises(Problem, match="No package index answers"):
            environment.make(layout, said)
    assert "trying again" in said.text
    assert "connection broken" in layout.install_log.read_text()


@pytest.fixture
def cpu_index(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An index of its own for the CPU build of torch, which the machine's index lacks."""
    folder = tmp_path / "index" / "tinytorch"
    folder.mkdir(parents=True)
    wheel = next(wheels.glob("tinytorch*"))
    wheel.rename(folder / wheel.name)
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(locks, "CPU_INDEX", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"{wheels.as_uri()}/simple")
        yield asked
        server.shutdown()


def test_the_cpu_build_comes_from_its_own_index_where_the_usual_one_lacks_it(
    layout: Layout, cpu_index: list[str], said: Said
) -> None:
    environment.make(layout, said)
    assert has(layout, "tinytorch, tinylab")
    assert "is not on this machine's index: from http://127.0.0.1" in said.text
    assert any(path.startswith("/tinytorch/") for path in cpu_index)
    assert not any(path.startswith("/tinylab") for path in cpu_index)


def test_a_lock_nobody_has_a_file_for(layout: Layout, wheels: Path, said: Said) -> None:
    shutil.rmtree(wheels)
    wheels.mkdir()
    with pytest.raises(Problem, match=r"no file of tinytorch==1\.0"):
        environment.make(layout, said)


def test_too_little_disk_is_told_before_anything_is_made(
    layout: Layout, wheels: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "find_variant", lambda _: locks.Variant("cpu", "", 10**18))
    with pytest.raises(Problem, match=r"GB free and the lab needs about 1000000000 GB"):
        environment.make(layout, said)
    assert not layout.venv.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_becomes_full(layout: Layout, wheels: Path, said: Said) -> None:
    size = ["-t", "tmpfs", "-o", "size=2m", "tmpfs"]
    (layout.locks / "lab.lock").write_text(
        make_wheel(wheels, "big", "1.0", text=f"DATA = '{'x' * 4 * 1024**2}'")
    )
    subprocess.run(["mount", *size, layout.state], check=True)
    try:
        layout.prepare()
        with pytest.raises(Problem, match="became full") as caught:
            environment.make(layout, said)
        assert "df -h" in caught.value.type_this
    finally:
        subprocess.run(["umount", layout.state], check=True)


def test_an_environment_is_not_replaced_under_the_command_that_runs_on_it(
    layout: Layout, wheels: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.make(layout, said)
    (layout.locks / "lab.lock").write_text(make_wheel(wheels, "newlab", "2.0"))
    monkeypatch.setattr(sys, "prefix", str(layout.venv))
    with pytest.raises(Problem, match="this command runs on them"):
        environment.make(layout, said)
    assert has(layout, "tinylab")


@pytest.mark.parametrize(
    ("said_by_python", "command"),
    [
        ("No module named ensurepip", "sudo apt install python3-venv"),
        ("OSError: [Errno 28] No space left on device", "df -h"),
    ],
)
def test_without_any_pip_what_helps_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said_by_python: str, command: str
) -> None:
    monkeypatch.setattr(pip.importlib.util, "find_spec", lambda _name: None)
    without = tmp_path / "python"
    without.write_text(f"#!/bin/sh\necho '{said_by_python}' >&2; exit 1\n")
    without.chmod(0o755)
    with pytest.raises(Problem) as caught:
        pip.find_pip(without)
    assert caught.value.type_this.startswith(command)


@pytest.mark.parametrize("beside_invoke", [None, "22.2"])
def test_without_a_new_pip_beside_invoke_the_environment_gets_its_own(
    layout: Layout,
    wheels: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
    beside_invoke: str | None,
) -> None:
    monkeypatch.setattr(pip.importlib.util, "find_spec", lambda _name: beside_invoke)
    monkeypatch.setattr(pip.importlib.metadata, "version", lambda _name: beside_invoke)
    before = os.umask(0o077)
    try:
        environment.make(layout, said)
    finally:
        os.umask(before)
    assert has(layout, "tinytorch, tinylab, pip")
    assert not unreadable(layout)


def test_the_stamp_is_what_the_locks_are(layout: Layout, wheels: Path, said: Said) -> None:
    environment.make(layout, said)
    told = json.loads((layout.venv / "made-from.json").read_text())
    assert set(told["locks"]) == {"torch-cpu.lock", "lab.lock"}
    assert told["variant"] == "cpu"
    assert diagnosis.CPU_INDEX == locks.CPU_INDEX  # what is said is what is used

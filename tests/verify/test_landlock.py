"""The file wall: what is not allowed is denied, in this process's children too."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from verify import landlock
from verify.landlock import Right
from verify.privileges import set_no_new_privileges


def behind(allowed: dict[str, Right], action: Callable[[], object]) -> int | str:
    """Return the errno that ``action`` ends in behind the wall, or "done"."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = "done"
        try:
            set_no_new_privileges()
            landlock.restrict(allowed)
            try:
                action()
            except OSError as error:
                told = str(error.errno)
        except BaseException as error:
            told = repr(error)
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    return int(told) if told.isdecimal() else told


EACCES, EPERM = 13, 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("x")
    return tmp_path


def test_only_what_is_allowed_can_be_read(folder: Path) -> None:
    allowed = {str(folder / "in"): landlock.READ}
    assert behind(allowed, (folder / "in" / "file").read_text) == "done"
    assert behind(allowed, (folder / "out" / "file").read_text) == EACCES
    assert behind(allowed, lambda: list(folder.iterdir())) == EACCES


def test_what_may_be_read_may_not_be_written(folder: Path) -> None:
    allowed = {str(folder / "in"): landlock.READ}
    assert behind(allowed, lambda: (folder / "in" / "file").write_text("y")) == EACCES
    assert behind(allowed, lambda: (folder / "in" / "new").mkdir()) == EACCES
    assert behind(allowed, (folder / "in" / "file").unlink) == EACCES
    assert behind(allowed, lambda: os.truncate(folder / "in" / "file", 0)) == EACCES
    assert (folder / "in" / "file").read_text() == "x"


def test_a_link_leads_nowhere_else(folder: Path) -> None:
    (folder / "in" / "link").symlink_to(folder / "out" / "file")
    allowed = {str(folder / "in"): landlock.OWN}
    assert behind(allowed, (folder / "in" / "link").read_text) == EACCES
    there = str(folder / "out" / "file"), str(folder / "in" / "hard")
    assert behind(allowed, lambda: os.link(*there)) in (EACCES, 18)  # EXDEV: it may not move


def test_ones_own_folder_is_ones_own_but_nothing_is_executed_from_it(folder: Path) -> None:
    allowed = {str(folder / "in"): landlock.OWN, "/usr": landlock.RUN, "/lib64": landlock.RUN}
    program = folder / "in" / "program"
    program.write_bytes(Path("/usr/bin/true").read_bytes())
    program.chmod(0o755)
    assert behind(allowed, lambda: (folder / "in" / "new").write_text("y")) == "done"
    assert behind(allowed, lambda: subprocess.run(["/usr/bin/true"], check=True)) == "done"
    assert behind(allowed, lambda: os.execv(program, ["program"])) == EACCES


def test_it_holds_in_what_is_started_too(folder: Path) -> None:
    allowed = dict.fromkeys(("/usr", "/lib", "/lib64"), landlock.RUN)
    allowed["/dev/null"] = landlock.USE
    read = ["/usr/bin/cat", str(folder / "out" / "file")]
    assert behind({}, lambda: subprocess.run(read, check=False)) == EACCES
    told = behind(allowed, lambda: subprocess.run(read, check=True, stderr=subprocess.DEVNULL))
    assert "CalledProcessError" in str(told)


@pytest.mark.skipif(landlock.abi() < landlock.SCOPED, reason="Landlock of Linux 6.12 or newer")
def test_signals_and_abstract_sockets_stay_inside(folder: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0landlock-test")
        server.listen()
        try:
            assert behind({}, lambda: os.kill(other.pid, signal.SIGTERM)) == EPERM
            connect = lambda: socket.socket(socket.AF_UNIX).connect("\0landlock-test")  # noqa: E731
            assert behind({}, connect) == EPERM
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()


def test_tcp_is_denied_on_a_kernel_that_can(folder: Path) -> None:
    if landlock.abi() < 4:
        pytest.fail("CI's kernel has been newer so far: say what it is")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = server.getsockname()
        "".encode("idna")  # a host's name is encoded so, by a module that must be read before
        assert behind({}, lambda: socket.create_connection(address, 1)) == EACCES


def test_a_path_that_is_not_there_is_left_out(folder: Path) -> None:
    allowed = {str(folder / "nowhere"): landlock.OWN, str(folder / "in"): landlock.READ}
    assert behind(allowed, (folder / "in" / "file").read_text) == "done"


def test_without_no_new_privileges_it_does_not_stand_and_says_so() -> None:
    """Root could: the kernel lets it. So this is asked of another user."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(59_500, 59_500, 59_500)
        os.setresuid(59_500, 59_500, 59_500)
        try:
            landlock.restrict({})
        except OSError as error:
            os._exit(0 if error.errno == EPERM else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

"""The system call filter: refused calls end in an error, all else is as it was."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import socket
import struct
import subprocess
from collections.abc import Callable

import pytest

from verify import seccomp, system_calls
from verify.privileges import set_no_new_privileges

NUMBERS = system_calls.ARCHITECTURES[platform.machine()].numbers


def call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(NUMBERS[name]), *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)


def filtered(action: Callable[[], object]) -> int:
    """Return the errno that ``action`` ends in behind the filter, 0 if it does not."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            set_no_new_privileges()
            seccomp.install()
            action()
            status = 0
        except OSError as error:
            status = error.errno or 254
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("name", [name for name in system_calls.REFUSED if name in NUMBERS])
def test_every_call_on_the_list_is_refused(name: str) -> None:
    assert filtered(lambda: call(name, -1, 0, 0, 0, 0)) == errno.EPERM


@pytest.mark.parametrize(
    "family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_CAN"]
)
def test_only_local_sockets_can_be_made(family: str) -> None:
    number = getattr(socket, family)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        assert filtered(lambda kind=kind: socket.socket(number, kind)) == errno.EACCES


def test_mptcp_is_no_way_around() -> None:
    stream = socket.SOCK_STREAM
    assert filtered(lambda: socket.socket(socket.AF_INET, stream, 262)) == errno.EACCES


def test_local_sockets_and_pairs_still_work() -> None:
    assert filtered(lambda: socket.socket(socket.AF_UNIX)) == 0
    assert filtered(socket.socketpair) == 0


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000])
@pytest.mark.parametrize("more", [0, 0x20000000, 0x40000000])
def test_no_process_is_made_in_another_name_space(flag: int, more: int) -> None:
    assert filtered(lambda: call("clone", flag | more | 17, 0, 0, 0, 0)) == errno.EPERM


def test_clone3_is_said_to_be_missing_so_that_the_c_library_asks_otherwise() -> None:
    assert filtered(lambda: call("clone3", 0, 0)) == errno.ENOSYS


def test_processes_threads_and_programs_still_start() -> None:
    def start() -> None:
        import threading

        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        subprocess.run(["/bin/true"], check=True)
        os.waitpid(os.spawnv(os.P_NOWAIT, "/bin/true", ["true"]), 0)

    assert filtered(start) == 0


def test_limits_and_priorities_of_others_are_out_of_reach_and_ones_own_are_not() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    parent = os.getpid()
    assert filtered(lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE, (8, 8))) == 1
    assert filtered(lambda: os.setpriority(os.PRIO_PROCESS, parent, 1)) == errno.EPERM
    assert filtered(lambda: os.setpriority(os.PRIO_USER, 0, 1)) == errno.EPERM
    assert filtered(lambda: os.sched_setaffinity(parent, {0})) == errno.EPERM
    assert filtered(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)) == 0
    assert filtered(lambda: os.nice(1)) == 0
    assert filtered(lambda: os.sched_setaffinity(0, {0})) == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def test_nothing_is_typed_on_somebodys_terminal() -> None:
    import fcntl
    import termios

    master, slave = os.openpty()
    for request in (0x5412, 0x541C):
        assert filtered(lambda r=request: fcntl.ioctl(slave, r, b"x")) == errno.EPERM
    assert filtered(lambda: fcntl.ioctl(slave, termios.TIOCGWINSZ, b"\0" * 8)) == 0
    os.close(master)
    os.close(slave)


def test_it_stays_after_exec() -> None:
    code = "import socket, sys\ntry: socket.socket()\nexcept OSError as e: sys.exit(e.errno)"
    python = ["/usr/bin/env", "python3", "-I", "-c", code]
    assert filtered(lambda: os.execv(python[0], python)) == errno.EACCES


@pytest.mark.parametrize("machine", system_calls.ARCHITECTURES)
def test_every_processor_refuses_the_same(machine: str) -> None:
    """The other processor's filter cannot be run here, but it can be read: see below."""
    table = system_calls.ARCHITECTURES[machine]
    for name, number in table.numbers.items():
        if name in system_calls.REFUSED:
            assert run(machine, table.audit, number) == 0x50000 | errno.EPERM, name
    local, network = table.numbers["socket"], socket.AF_INET
    assert run(machine, table.audit, local, socket.AF_UNIX) == 0x7FFF0000
    assert run(machine, table.audit, local, network) == 0x50000 | errno.EACCES
    assert run(machine, table.audit, 9999) == 0x7FFF0000
    assert run(machine, table.audit ^ 1, 9999) == 0x80000000, "a number of another table"


def test_the_second_table_of_x86_is_no_way_around() -> None:
    table = system_calls.ARCHITECTURES["x86_64"]
    number = 0x40000000 | table.numbers["ptrace"]
    assert run("x86_64", table.audit, number) == 0x50000 | errno.ENOSYS


def test_an_unknown_processor_has_no_filter() -> None:
    with pytest.raises(seccomp.Unsupported, match="riscv64"):
        seccomp.program("riscv64")


def run(machine: str, audit: int, number: int, *arguments: int) -> int:
    """Return what the filter says to a call: an interpreter of its few instructions."""
    data = struct.pack("=IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    lines = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    at, word = 0, 0
    while True:
        code, yes, no, value = lines[at]
        at += 1
        if code == 0x20:
            (word,) = struct.unpack_from("=I", data, value)
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: word == value, 0x35: word >= value, 0x45: bool(word & value)}[code]
            at += yes if holds else no

"""A filter that a process puts on its own system calls: what no exercise needs is refused.

A deny-list of what reaches other processes, other jobs, the network or rarely used parts of the
kernel; all else is as it was, and it stays after ``exec``. It needs no right and no library, only
no-new-privileges. https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
from collections.abc import Sequence
from typing import Final

from verify import system_calls

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2

# Instructions of the kernel's packet filter: linux/bpf_common.h.
_LOAD: Final = 0x20  # a 32-bit word of the call's data
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000  # with an errno in the lower half
_KILL: Final = 0x80000000

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32: Final = 0x40000000  # x86-64's second table of the same calls

_NEW_NAMESPACES: Final = 0x7E020000  # the CLONE_NEW* flags of clone(2)
_PUSHES_INPUT: Final = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX type on somebody's terminal


class Unsupported(OSError):
    """This kernel or processor has no filter of ours."""


def program(machine: str) -> bytes:
    """Return the filter for a processor, as ``uname -m`` names it: 8 bytes an instruction.

    Raises:
        Unsupported: the numbers of its system calls are not known here.
    """
    if machine not in system_calls.ARCHITECTURES:
        raise Unsupported(errno.ENOSYS, f"no system call filter for {machine}")
    table = system_calls.ARCHITECTURES[machine]
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, table.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, _X32), _refusal(errno.ENOSYS)]
    for name in system_calls.REFUSED:
        if name in table.numbers:
            lines += _when(table.numbers[name], [_refusal(errno.EPERM)])
    # Without clone3 the C library falls back on clone, whose flags can be looked at.
    lines += _when(table.numbers["clone3"], [_refusal(errno.ENOSYS)])
    for name, body in _conditional().items():
        lines += _when(table.numbers[name], body)
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def install() -> None:
    """Filter the calling thread and all that it will start.

    Raises:
        OSError: the filter does not stand; the caller must not go on.
    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    code = program(platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    told = Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(told), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system call filter was refused")


Line = tuple[int, int, int, int]


def _conditional() -> dict[str, list[Line]]:
    """Return what decides about the calls that only some arguments make dangerous."""
    local = [_argument(0), (_EQUAL, 1, 0, socket.AF_UNIX), _refusal(errno.EACCES)]
    own = [_argument(0), (_EQUAL, 1, 0, 0), _refusal(errno.EPERM)]
    types = [line for request in _PUSHES_INPUT for line in (_equal(request), _refusal(errno.EPERM))]
    return {
        "socket": local,
        "socketpair": local,
        "clone": [_argument(0), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), _refusal(errno.EPERM)],
        "prlimit64": own,
        "sched_setaffinity": own,
        "setpriority": [*own, _argument(1), (_EQUAL, 1, 0, 0), _refusal(errno.EPERM)],
        "ioctl": [_argument(1), *types],
    }


def _when(number: int, body: Sequence[Line]) -> list[Line]:
    """Return ``body`` to be run for one system call only; what it does not refuse is allowed."""
    whole = [*body, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(whole), number), *whole]


def _argument(place: int) -> Line:
    """Load the lower half of an argument: all that these calls look at."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * place)


def _equal(value: int) -> Line:
    return (_EQUAL, 0, 1, value)


def _refusal(number: int) -> Line:
    return (_RETURN, 0, 0, _REFUSE | number)

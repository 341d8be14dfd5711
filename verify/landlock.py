"""A wall around files, signals and TCP that a process puts up around itself: Linux's Landlock.

What is not allowed by name is denied, for this thread and all that it will ever start, and nothing
takes the wall down again. https://docs.kernel.org/userspace-api/landlock.html

Not covered, and so left to `verify.seccomp`: UDP, and TCP by way of MPTCP. Before ABI 6 (Linux
6.12) signals and abstract sockets are not covered either.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import functools
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

_CREATE_RULESET: Final = 444  # these numbers are the same on every architecture
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_TELL_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_TCP: Final = 0b11  # bind and connect, ABI 4
_SCOPE: Final = 0b11  # abstract Unix sockets and signals, ABI 6

SCOPED: Final = 6
"""The ABI from which a process without a user of its own is kept from signalling others."""


class Right(enum.IntFlag):
    """What may be done with a file, or beneath a folder."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ: Final = Right.READ_FILE | Right.READ_DIR
RUN: Final = READ | Right.EXECUTE
USE: Final = Right.READ_FILE | Right.WRITE_FILE | Right.IOCTL_DEV  # a device
OWN: Final = (
    READ
    | (Right.WRITE_FILE | Right.TRUNCATE | Right.REMOVE_DIR | Right.REMOVE_FILE | Right.REFER)
    | (Right.MAKE_DIR | Right.MAKE_REG | Right.MAKE_SOCK | Right.MAKE_FIFO | Right.MAKE_SYM)
)
"""Everything with files that are one's own; devices cannot be made, nothing can be executed."""

SHARE: Final = READ | (
    (Right.WRITE_FILE | Right.TRUNCATE) | (Right.REMOVE_FILE | Right.MAKE_REG | Right.REFER)
)
"""Files alone, right in one folder: whose they are and how large shows to whoever may list it."""

_OF_FILES: Final = (
    (Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE) | Right.TRUNCATE | Right.IOCTL_DEV
)
_SINCE: Final = {Right.REFER: 2, Right.TRUNCATE: 3, Right.IOCTL_DEV: 5}


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


@functools.cache
def abi() -> int:
    """Return the version of Landlock that this kernel has; 0: none, or it is switched off."""
    with contextlib.suppress(OSError):
        return _call(_CREATE_RULESET, None, 0, _TELL_VERSION)
    return 0


def restrict(allowed: Mapping[str, Right]) -> None:
    """Deny this thread all files, TCP and outside signals but what ``allowed`` names.

    The calling process must have set no-new-privileges and have one thread.

    Args:
        allowed: What may be done beneath each path; a path that is not there is left out.

    Raises:
        OSError: the wall does not stand; the caller must not go on.
    """
    version = abi()
    known = _known(version)
    told = _Ruleset(known, _TCP if version >= 4 else 0, _SCOPE if version >= SCOPED else 0)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(told), _size(version), 0)
    try:
        for path, rights in allowed.items():
            with _opened(path) as file:
                if file is not None:
                    _allow(ruleset, file, rights & known)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _known(version: int) -> Right:
    """Return the rights that a kernel's version knows; naming another one is an error."""
    known = Right(0)
    for right in Right:
        if version >= _SINCE.get(right, 1):
            known |= right
    return known


def _size(version: int) -> int:
    """Return how much of the ruleset's structure a kernel's version knows."""
    fields = 1 + (version >= 4) + (version >= SCOPED)
    return fields * ctypes.sizeof(ctypes.c_uint64)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int | None]:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not there, or out of reach already
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


def _allow(ruleset: int, file: int, rights: Right) -> None:
    if not stat.S_ISDIR(os.fstat(file).st_mode):
        rights &= _OF_FILES
    if rights:
        rule = _PathBeneath(rights, file)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result

"""What a process gives up, or hides, of itself: see man 2 prctl and man 2 capset."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_CAPABILITY_VERSION_3: Final = 0x20080522
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38


def hide_memory() -> None:
    """Take this process's memory, environment and descriptors out of its own user's reach."""
    _prctl(_PR_SET_DUMPABLE, 0)


def show_memory() -> None:
    """Let this process see its own /proc/self, which a hidden parent or a change of user took."""
    _prctl(_PR_SET_DUMPABLE, 1)


def set_no_new_privileges() -> None:
    """No program that this process starts gives it a right that it does not have."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up every capability; where a learner had to stay root, it is root in name alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have this process killed when ``parent`` ends, also if that happened a moment ago."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, argument: int) -> None:
    """Set one property of this process; raise `OSError` if that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {argument})")

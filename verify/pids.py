"""Processes by number: who is below whom, who has ended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def parents() -> dict[int, int]:
    """Return the parent of every process that /proc shows."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path for each would take longer
        if name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = Path("/proc", name, "stat").read_text("ascii", "replace")
                found[int(name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def children(parent: int) -> list[int]:
    """Return the pids whose parent is ``parent``."""
    return [pid for pid, its in parents().items() if its == parent]


def descendants(pid: int) -> list[int]:
    """Return every process below ``pid``, parents before children."""
    its = parents()
    found = [child for child, parent in its.items() if parent == pid]
    for one in found:  # it grows while it is gone through
        found += [child for child, parent in its.items() if parent == one]
    return found


def threads_of(uid: int) -> int:
    """Return how many threads the processes of a user have: what RLIMIT_NPROC counts."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == uid:
                count += len(list((process / "task").iterdir()))
    return count


def reap(pid: int) -> bool:
    """Return whether ``pid`` has ended and is reaped, now or before; never wait."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True

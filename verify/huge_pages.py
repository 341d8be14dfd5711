"""Larger pages under a process that is forked often: a fork copies one entry for each of them.

What the zygote's imports leave is some hundred thousand small pages of memory, and most of the time
of a fork, and of its child's end, goes into the tables of these. A child that writes still copies
small pages only (Linux 5.8, https://git.kernel.org/torvalds/c/3917c80280c9).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_COLLAPSE: Final = 25  # MADV_COLLAPSE, madvise(2): since Linux 6.1, else refused
_SIZE: Final = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


def collapse(maps: Path = Path("/proc/self/maps")) -> Iterator[bool]:
    """Put one large page after the other under this process's own memory.

    Yields:
        Whether the kernel did; it takes some milliseconds each.
    """
    with contextlib.suppress(OSError):  # a kernel without them
        size = int(_SIZE.read_text("ascii"))
        advise = ctypes.CDLL(None).madvise
        for start, end in _own(maps.read_text("utf-8", "replace")):
            for address in range(-(-start // size) * size, end - size + 1, size):
                yield advise(ctypes.c_void_p(address), ctypes.c_size_t(size), _COLLAPSE) == 0


def _own(maps: str) -> Iterator[tuple[int, int]]:
    """Yield where memory of no file can be written that no other process shares."""
    for line in maps.splitlines():
        where, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights in ("rw-p", "rwxp") and inode == "0" and name in ([], ["[heap]"]):
            start, end = where.split("-")
            yield int(start, 16), int(end, 16)

"""A job's room on disk: its own folder and shared memory, bounded, and gone with the job.

Where the runner may mount (root outside a container), a job's keeper puts file systems in memory in
the way of both: full means full, and they end with it. A container has such file systems mounted
from its start, one for each slot. Elsewhere the room is a folder that is looked at while the job
runs. Shared memory that jobs have in common is looked at too, where files tell whose they are.
"""

from __future__ import annotations

import ctypes
import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from verify.users import in_image

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108
FILES: Final = 16_384  # in a job's folder
_SLOTS: Final = Path("/jobs")  # `compose.yaml` mounts one file system for each slot below it
_NEW_NAMESPACE: Final = 0x0002_0000  # CLONE_NEWNS, unshare(2)
_NOSUID, _NODEV, _REC, _PRIVATE = 2, 4, 1 << 14, 1 << 18  # mount(2)


@functools.cache
def folders() -> tuple[Path, ...]:
    """Return the folders that a container has for its slots, mounted since its start; else none."""
    return tuple(sorted(_SLOTS.iterdir())) if in_image() and _SLOTS.is_dir() else ()


def folder(slot: int) -> Path:
    """Return the folder in which slot number ``slot`` has its jobs' folders."""
    found = folders()
    return found[slot] if found else Path(tempfile.gettempdir())


def enter(directory: str, uid: int | None, size: int) -> None:
    """Give the calling process, and all it will start, room of its own in memory.

    Args:
        directory: To be made; a file system is mounted there, and one over `SHARED_MEMORY`.
        uid: Whose it is, or None: the caller's.
        size: The bytes that each may hold.

    Raises:
        OSError: the caller may not mount.
    """
    Path(directory).mkdir(exist_ok=True, mode=0o700)
    owner = os.geteuid() if uid is None else uid
    _call("unshare", _NEW_NAMESPACE)
    _mount(None, "/", None, _REC | _PRIVATE, None)
    options = f"size={size},nr_inodes={FILES},mode=0700,uid={owner},gid={owner}"
    for place in (directory, SHARED_MEMORY):
        _mount("tmpfs", place, "tmpfs", _NOSUID | _NODEV, options)


def try_to_enter() -> None:
    """Do as `enter` does, in a process that ends at once; raise ``OSError`` if it cannot."""
    enter(tempfile.gettempdir(), None, 1024**2)


def over(directory: str, size: int, uid: int | None, *, bounded: bool) -> bool:
    """Tell whether a job has more on disk than it may.

    Args:
        directory: Its folder.
        size: The bytes it may have there, and in shared memory.
        uid: Its user, if that is nobody else's: only then its shared memory can be told.
        bounded: Whether its folder is a file system of its own, which needs no look.
    """
    if not bounded and _exceeds(_below(directory), size):
        return True
    return uid is not None and _exceeds(_shared_by(uid), size)


def _exceeds(sizes: Iterator[int], limit: int) -> bool:
    total = 0
    for number, size in enumerate(sizes, 1):
        total += size
        if total > limit or number > FILES:
            return True
    return False


def _below(directory: str) -> Iterator[int]:
    """Yield the bytes on disk of each file below ``directory``, links not followed."""
    waiting = [directory]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    yield found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:  # gone meanwhile, or closed to us by who owns it
            continue


def _shared_by(uid: int) -> Iterator[int]:
    try:
        with os.scandir(SHARED_MEMORY) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                if found.st_uid == uid:
                    yield found.st_blocks * 512
    except OSError:
        return


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    words = (word if word is None else word.encode() for word in (source, target, kind))
    _call("mount", *words, ctypes.c_ulong(flags), data if data is None else data.encode())


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")

"""Room on disk: bytes and files where libraries write, and shared memory between processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from verify.machine import Advice, Fault, nearest

MIB, GIB = 2**20, 2**30
# Temporary files: what one job may write (verify/scratch.py), and twice that.
TEMPORARY_FLOOR, TEMPORARY_ENOUGH = 256 * MIB, 512 * MIB
# A cache holds models: the smallest that are any good take 1 GiB, one of 8 billion parameters in 16
# bits takes 16, and is there twice for a moment while it is downloaded or converted.
CACHE_FLOOR, CACHE_ENOUGH = GIB, 20 * GIB
FILES_FLOOR, FILES_ENOUGH = 1_000, 20_000  # a virtual environment has some 40,000
# Docker gives 64 MB, and a batch larger than what is left ends a DataLoader with a bus error.
# https://docs.docker.com/reference/cli/docker/container/run/#options (--shm-size)
SHARED = Path("/dev/shm")  # noqa: S108 - it is looked at, not written
SHARED_FLOOR, SHARED_ENOUGH = 64 * MIB, GIB
_TEMPORARY = ("TMPDIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


def require_room(folders: Mapping[str, Path]) -> str:
    """Return what is free where; raise `Fault` if too little for the labs, `Advice` for models.

    Args:
        folders: By the variable that names each; one that is not there yet counts as the nearest
            that is.
    """
    told: dict[str, None] = {}
    little: Fault | None = None
    for name, folder in folders.items():
        there = nearest(folder)
        found = os.statvfs(there)
        if not found.f_blocks:
            continue  # no disk: /proc, or one that does not say
        free = found.f_bavail * found.f_frsize
        files = found.f_favail if found.f_files else FILES_ENOUGH  # Btrfs counts none
        problem = _judge(name, there, free, files)
        if problem is not None and not isinstance(problem, Advice):
            raise problem
        little = little or problem
        told[f"{_size(free)} in {there}"] = None
    if little is not None:
        raise little
    return ", ".join(told)


def require_shared_memory(folder: Path = SHARED) -> str:
    """Return how much shared memory there is; raise `Fault` or `Advice` if it is little."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise Fault(
            f"There is no shared memory at {folder}: {error.strerror}.",
            "it is not mounted",
            f"sudo mount -t tmpfs -o size=1g shm {folder}",
        ) from error
    if found.f_flag & os.ST_RDONLY:
        raise Fault(
            f"{folder} cannot be written.",
            "it is mounted read-only",
            f"sudo mount -o remount,rw {folder}",
        )
    size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    told = f"{_size(size)} of shared memory, {_size(free)} free"
    if size > SHARED_FLOOR and free < SHARED_FLOOR:
        raise Fault(
            f"{folder} has {told}.",
            "programs that were killed have left files there",
            f"ls -l {folder}  # then remove what nobody uses",
        )
    if size < SHARED_ENOUGH:
        raise (Fault if size <= SHARED_FLOOR else Advice)(
            f"{folder} has {told}.",
            "it is what Docker gives a container that does not ask for more",
            "docker run --shm-size=1g, or shm_size: 1gb in compose.yaml"
            f"  # elsewhere: sudo mount -o remount,size=1g {folder}",
        )
    return told


def _judge(name: str, folder: Path, free: int, files: int) -> Fault | None:
    floor, enough = (
        (TEMPORARY_FLOOR, TEMPORARY_ENOUGH) if name in _TEMPORARY else (CACHE_FLOOR, CACHE_ENOUGH)
    )
    see = f"df -h {folder} && du -xsh {folder}/* | sort -h | tail"
    if free < enough:
        least = f"the labs need {_size(floor)}"
        more = "a job fills that" if name in _TEMPORARY else "a model of 8 billion takes 16 GiB"
        return (Fault if free < floor else Advice)(
            f"{_size(free)} are free in {folder} ({name}); {least if free < floor else more}.",
            "the disk, or your quota on it, is nearly full",
            f"{see}  # make room, or set {name} to another disk",
        )
    if files < FILES_ENOUGH:
        return (Fault if files < FILES_FLOOR else Advice)(
            f"{files} more files can be made in {folder} ({name}), though bytes are free.",
            "the file system has run out of inodes: it holds very many small files",
            f"df -i {folder} && du --inodes -x {folder} | sort -n | tail",
        )
    return None


def _size(number: int) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"

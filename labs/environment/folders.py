"""The folders that libraries write into on the way: caches, temporary files, compiled code."""

from __future__ import annotations

import errno
import mmap
import tempfile
from collections.abc import Mapping
from pathlib import Path

from verify.lab.layout import Layout
from verify.machine import TEMPORARY, Fault, nearest

_BELOW_HOME = {"HF_HOME": ".cache/huggingface", "TRITON_CACHE_DIR": ".triton/cache"}
_WHY = {
    errno.EROFS: ("it is mounted read-only, or went so after a fault of the disk", "findmnt -T"),
    errno.ENOSPC: ("the disk is full", "df -h"),
    errno.EDQUOT: ("your share of the disk is used up", "quota -s; df -h"),
    errno.EACCES: ("another user made it", "ls -ld"),
    errno.EPERM: ("another user made it", "ls -ld"),
    errno.ENOTDIR: ("a file lies where the folder should be", "ls -ld"),
}
_OTHERWISE = ("the disk is failing, or is not there any more", "findmnt -T")
_LOADS_CODE = ("TMPDIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


def caches(environ: Mapping[str, str], layout: Layout) -> dict[str, Path]:
    """Return the folders by the variable that names each, the libraries' defaults included.

    In the runner's container it is the temporary folder alone: all else is read-only there, and a
    job has its home and its caches in that one.
    """
    temporary = Path(environ.get("TMPDIR") or TEMPORARY)
    found = {"TMPDIR": temporary}
    if layout.manifest.exists():
        return found
    home = Path(environ.get("HOME") or Path.home())
    for name, default in _BELOW_HOME.items():
        found[name] = Path(environ.get(name) or home / default)
    # https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_configuration_tutorial.html
    inductor = environ.get("TORCHINDUCTOR_CACHE_DIR")
    return found | ({"TORCHINDUCTOR_CACHE_DIR": Path(inductor)} if inductor else {})


def require_writable(found: Mapping[str, Path]) -> str:
    """Return the folders; raise `Fault` with the first in which a file cannot be made, or loaded.

    A folder that is not there yet is judged by the nearest that is: the library will make it. Not
    so the one for temporary files: where it is not, each program takes another, or fails.
    """
    for name, folder in found.items():
        if name == "TMPDIR" and not folder.is_dir():
            raise Fault(
                f"TMPDIR names {folder}, which is no folder.",
                "it was set for another machine, or for a job that has ended",
                "unset TMPDIR  # or: mkdir -p $TMPDIR",
            )
        there = nearest(folder)
        try:
            with tempfile.NamedTemporaryFile(dir=there, prefix=".environment-") as file:
                file.write(b"\0" * mmap.PAGESIZE)
                file.flush()
                if name in _LOADS_CODE:
                    _map_as_code(file.fileno(), there, name)
        except OSError as error:
            cause, see = _WHY.get(error.errno or 0, _OTHERWISE)
            raise Fault(
                f"{folder} ({name}) cannot be written: {error.strerror}.", cause, f"{see} {there}"
            ) from error
    return ", ".join(str(folder) for folder in found.values())


def _map_as_code(file: int, folder: Path, name: str) -> None:
    """Raise `Fault` unless compiled code can be loaded from this file, as torch.compile does."""
    try:
        mmap.mmap(file, mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    except PermissionError as error:
        raise Fault(
            f"Compiled code cannot be loaded from {folder}.",
            "it is mounted with noexec",
            f"findmnt -T {folder}  # then mount it with exec, or set {name} to another folder",
        ) from error

"""Room on the client's disks: for images, for models, for the learner's files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from verify.lab.engine_troubles import NoEngine
from verify.lab.problems import Problem
from verify.machine import Advice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.lab.view import Finding, View

GIB: Final = 1024**3
FLOOR: Final = GIB
"""With less the lab itself stops: results, logs and what is built keep being written."""

ENOUGH: Final = 20 * GIB
"""A model of 8 billion parameters takes 16 GiB in 16 bits, an image for GPUs twice that."""

_LOOKS_ITSELF: Final = ("local", "node", "standalone")
"""Runtimes whose own half looks at the same place for models."""

_FILES_FLOOR, _FILES_ENOUGH = 1_000, 50_000  # an environment has some 40,000


def disks(view: View) -> Finding:
    """Return what is free where; the first place that has too little, `Advice` if one has little.

    Bytes and inodes are counted as an ordinary user gets them.
    """
    told: dict[int, str] = {}
    little: Problem | None = None
    for what, folder in _places(view):
        try:
            there = next(it for it in (folder, *folder.parents) if it.exists())
            found = os.statvfs(there)
        except OSError:
            continue  # in a folder that is not ours to look into
        if not found.f_blocks:
            continue  # a file system that does not say
        free = found.f_bavail * found.f_frsize
        problem = _judge(what, there, free, found.f_favail if found.f_files else _FILES_ENOUGH)
        if problem is not None and not isinstance(problem, Advice):
            return problem
        little = little or problem
        told.setdefault(there.stat().st_dev, f"{free / GIB:.1f} GiB for {what} ({there})")
    return little or ", ".join(told.values())


def _places(view: View) -> Iterator[tuple[str, Path]]:
    home = Path(view.environ.get("HOME") or Path.home())
    yield "the lab", view.layout.state
    yield "your files", view.layout.workspace
    if view.runtime not in _LOOKS_ITSELF:
        yield "models", Path(view.environ.get("HF_HOME") or home / ".cache" / "huggingface")
    engine = view.seen.engine
    if not isinstance(engine, NoEngine) and engine.address.startswith("unix:") and engine.folder:
        yield "Docker's images", Path(engine.folder)


def _judge(what: str, folder: Path, free: int, files: int) -> Problem | None:
    if free < ENOUGH:
        kind = Problem if free < FLOOR else Advice
        least = f"; {FLOOR / GIB:.0f} GiB must be" if free < FLOOR else ""
        return kind(
            f"{free / GIB:.1f} GiB are free for {what} in {folder}{least}.",
            cause="the disk is nearly full; a model of 8 billion parameters takes 16 GiB",
            type_this=f"df -h {folder} && docker system df"
            if what.startswith("Docker")
            else f"df -h {folder} && du -xsh {folder}/* | sort -h | tail",
        )
    if files < _FILES_ENOUGH:
        kind = Problem if files < _FILES_FLOOR else Advice
        return kind(
            f"{files} more files can be made for {what} in {folder}, though bytes are free.",
            cause="the file system has run out of inodes: it holds very many small files",
            type_this=f"df -i {folder} && du --inodes -x {folder} | sort -n | tail",
        )
    return None

"""Which Python the lab's environment is made with."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import platform
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

from verify.lab.problems import Problem

# What the lock files have hashes for (their first lines say the same, a test compares).
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")

_USUAL_FOLDERS = ("/usr/bin", "/usr/local/bin")
_QUESTION = (
    "import json, sys, sysconfig; print(json.dumps([sys.executable, "
    "sys.version_info[0], sys.version_info[1], sysconfig.get_path('stdlib')]))"
)


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """A Python: its executable, its ``major.minor`` and its standard library's folder."""

    executable: Path
    version: str
    library: Path

    @property
    def locked(self) -> bool:
        """Whether the lock files have hashes for it."""
        return self.version in PYTHONS

    @property
    def closed_folder(self) -> Path | None:
        """The first folder that keeps other users from it, or None."""
        return closed_folder(self.executable) or closed_folder(self.library)


@dataclasses.dataclass(frozen=True)
class Choice:
    """An interpreter, and what there is to say about taking it; empty when it is the usual."""

    interpreter: Interpreter
    remark: str = ""


def choose() -> Choice:
    """Return the Python to make the environment with: this one unless there is a reason.

    As root the runner gives learner code a user of its own, which must be able to read the
    standard library; a Python below a folder like ``/root`` is closed to it.

    Raises:
        Problem: neither this Python nor another here is one the lock files know.
    """
    _require_known_machine()
    own = this()
    closed = own.closed_folder if os.geteuid() == 0 else None
    if own.locked and closed is None:
        return Choice(own)
    for other in others(first=own.version):
        if other.locked and not (os.geteuid() == 0 and other.closed_folder):
            why = f"other users cannot enter {closed}" if own.locked else "the locks know it"
            return Choice(other, f"{other.executable} ({other.version}) is used: {why}")
    if own.locked:
        return Choice(
            own,
            f"{own.executable} is below {closed}, which other users cannot enter: learner code "
            "will run without a user of its own",
        )
    raise Problem(
        f"Python {own.version} is not one this lab is locked for ({', '.join(PYTHONS)}).",
        cause="no other Python was found either",
        type_this="python3.12 -m venv .venv && . .venv/bin/activate && pip install -e . "
        "&& invoke lab.up",
    )


def this() -> Interpreter:
    """Return the Python that runs this code, the one behind its virtual environment."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Interpreter(
        Path(getattr(sys, "_base_executable", sys.executable)),
        version,
        Path(sysconfig.get_path("stdlib")),
    )


def others(first: str) -> list[Interpreter]:
    """Return the other Pythons the lock files know, those of version ``first`` at the front."""
    versions = sorted(PYTHONS, key=lambda version: version != first)
    folders = dict.fromkeys([*_USUAL_FOLDERS, *os.environ.get("PATH", "").split(os.pathsep)])
    found = [
        ask(Path(folder, f"python{version}"))
        for version, folder in itertools.product(versions, folders)
        if folder
    ]
    return [interpreter for interpreter in found if interpreter]


def ask(executable: Path) -> Interpreter | None:
    """Return what the Python ``executable`` says of itself, or None when it does not answer."""
    if not os.access(executable, os.X_OK):
        return None
    try:
        answer = subprocess.run(  # noqa: S603 (a Python of this machine, no shell)
            [executable, "-I", "-S", "-c", _QUESTION],
            capture_output=True,
            timeout=20,
            check=True,
        ).stdout
        path, major, minor, library = json.loads(answer)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(Path(path), f"{major}.{minor}", Path(library))


def closed_folder(path: Path) -> Path | None:
    """Return the first folder on the way to ``path`` that other users cannot pass, or None."""
    for way in dict.fromkeys([path, path.resolve()]):
        for folder in reversed(way.parents):
            if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
                return folder
    return None


def _require_known_machine() -> None:
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        raise Problem(
            f"The lab's libraries are not locked for {platform.system()} {platform.machine()}.",
            cause=f"the local runtime is for Linux on {' and '.join(MACHINES)}",
        )

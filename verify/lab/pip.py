"""Running pip on the lab's environment: every line into the log, the telling ones to the screen."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from verify.lab import diagnosis
from verify.lab.following import following

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# `pip --python` came with 22.3, machine-readable download progress with 24.1
# (https://pip.pypa.io/en/stable/news/).
_CAN_SERVE_OTHERS = (22, 3)
_CAN_TELL_PROGRESS = (24, 1)

# Learner code may have a user of its own, and must be able to read the libraries.
_READABLE = 0o022

# Settings of the person's own pip that would install to another place than the environment.
_ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_DRY_RUN", "PYTHONPATH")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of pip ended: its exit code, and all it printed."""

    code: int
    output: str


@dataclasses.dataclass(frozen=True)
class Pip:
    """A pip that installs into one environment: the command's beginning, and its version."""

    command: tuple[str, ...]
    version: tuple[int, ...]

    def install(
        self, lock: Path, log: Path, hear: Callable[[str | None], None], *options: str
    ) -> Outcome:
        """Install ``lock`` and append everything pip prints to ``log``.

        Args:
            lock: A requirement file with hashes.
            log: Where the output goes.
            hear: Called with each line, and with None now and then while there is none.
            options: What else to ask of pip.
        """
        bar = "raw" if self.version >= _CAN_TELL_PROGRESS else "off"
        # A lock holds all there is to install. Left to itself, pip asks the index for what one
        # package wants with an extra, finds a newer version, and refuses it for want of a hash.
        command = [*self.command, "install", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--no-input", "--no-user"]
        command += ["--progress-bar", bar, *options, "-r", str(lock)]
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n# {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(command)}\n")
            told = []
            with following(command, _environment(), umask=_READABLE) as process:
                for line in process.lines():
                    if line is not None:
                        file.write(line)
                        told.append(line)
                    hear(line and line.rstrip("\n"))
                return Outcome(process.wait(), "".join(told))


def find_pip(python: Path) -> Pip:
    """Return a pip for the environment of ``python``: the one beside Invoke, or one made there.

    Raises:
        Problem: there is none, and this Python cannot make one.
    """
    if importlib.util.find_spec("pip"):
        version = _version(importlib.metadata.version("pip"))
        if version >= _CAN_SERVE_OTHERS:
            return Pip((sys.executable, "-m", "pip", "--python", str(python)), version)
    made = subprocess.run(  # noqa: S603 (the environment's Python, no shell)
        [python, "-I", "-m", "ensurepip"],
        capture_output=True,
        text=True,
        check=False,
        umask=_READABLE,
    )
    if made.returncode:
        raise diagnosis.no_pip(made.stdout + made.stderr, python.parent)
    told = subprocess.check_output([python, "-I", "-m", "pip", "--version"], text=True)  # noqa: S603
    return Pip((str(python), "-I", "-m", "pip"), _version(told.split()[1]))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return env | {"PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

"""What checks of the machine need: a fault with its cause and its command, and where caches lie."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from verify.lab.problems import Problem

ENVIRONMENT: Final = "environment"
"""The cause of a result that is the machine's fault."""

CACHES: Final = ("HOME", "HF_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
"""Variables of the runner that its checks of the machine may see, and no learner's process."""

TEMPORARY: Final = "/tmp"  # noqa: S108 - where libraries write unless they are told otherwise

_TYPE: Final = ". Type: "


class Fault(Problem):
    """The machine is not as the lab needs it; a check raises it.

    Args:
        happened: What was found, one sentence with its full stop.
        cause: The likely cause, without one.
        type_this: The command that helps.
    """

    def __init__(self, happened: str, cause: str, type_this: str) -> None:
        super().__init__(happened, cause=cause, type_this=type_this)

    @property
    def hint(self) -> str:
        """Cause and command as the one sentence that a result keeps."""
        return as_hint(self)


class Advice(Fault):
    """The machine will do, though not well: shown as advice, and fails nothing."""


def as_hint(problem: Problem) -> str:
    """Return cause and command in the one sentence that a result keeps; `advice` takes it apart."""
    return f"{problem.cause[:1].upper()}{problem.cause[1:]}{_TYPE}{problem.type_this}"


def advice(hint: str) -> tuple[str, str]:
    """Return the likely cause and the command (may be empty) in the hint of a fault."""
    cause, _, command = hint.partition(_TYPE)
    return cause, command


def nearest(folder: Path) -> Path:
    """Return ``folder``, or the first above it that is there.

    Raises:
        Fault: who asks may not look, or a link leads nowhere.
    """
    for place in (folder, *folder.parents):
        try:
            if place.exists():
                return place
            if place.is_symlink():
                raise Fault(
                    f"{place} is a link to nothing.",
                    "what it named was removed, or its disk is not mounted",
                    f"ls -l {place}; findmnt",
                )
        except PermissionError as error:
            raise Fault(
                f"{folder} is in a folder that this user may not enter.",
                "it was set for another user",
                f"namei -l {folder}",
            ) from error
    return Path("/")


def caches() -> dict[str, str]:
    """Return where this process's caches lie, as far as its environment says.

    The temporary folder is the one that was asked for: Python takes another, without a word, where
    that one is full.
    """
    named = {name: os.environ[name] for name in CACHES if os.environ.get(name)}
    return {"TMPDIR": os.environ.get("TMPDIR") or TEMPORARY, **named}


def use_caches(told: dict[str, str]) -> None:
    """Have this process's caches where ``told`` says, and else where libraries put them."""
    for name in CACHES:
        os.environ.pop(name, None)  # a job's own place, which is another
    os.environ.update(told)
    tempfile.tempdir = None  # its value was settled when the environment was another

"""The learner's files as they are sent: bytes, read once, never a path."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from verify.labs import Lab
from verify.plain import Plain

MAX_EXERCISE = 1024 * 1024  # bytes; a percent-format notebook of a lab has some thousand


def read_exercise(lab: Lab, workspace: Path) -> dict[str, Plain]:
    """Return ``workspace/<skill>/exercise.py`` as a submission, or why there is none.

    A lab without an exercise is submitted without a file.
    """
    if not lab.exercise:
        return {"skill": lab.skill, "exercise": None, "trouble": None}
    file = workspace / lab.skill / "exercise.py"
    try:
        if file.is_symlink():  # it could lead to what only the reader may read
            return _trouble(lab, f"{file} is a link; the file itself is needed there.")
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return _trouble(lab, f"{file} is not a file.")
            exercise = opened.read(MAX_EXERCISE + 1)
    except FileNotFoundError:
        start = f"Type: invoke lab.reset --skill {lab.skill}"
        return _trouble(lab, f"{file} is not there. {start}, or give the folder with --workspace.")
    except OSError as error:
        return _trouble(lab, f"{file} cannot be read: {error.strerror}.")
    if len(exercise) > MAX_EXERCISE:
        return _trouble(lab, f"{file} is larger than {MAX_EXERCISE // 1024} KiB.")
    return {"skill": lab.skill, "exercise": exercise, "trouble": None}


def _trouble(lab: Lab, text: str) -> dict[str, Plain]:
    return {"skill": lab.skill, "exercise": None, "trouble": text}

"""What a client may ask of a runner, checked word by word: the client may be hostile."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

from verify.labs import Lab, find_labs
from verify.submit import MAX_EXERCISE

_SKILLS: Final = 100  # in one request: more would only fill the results
_KEY: Final = 64  # characters


class Refused(Exception):
    """The request is not one that can be served; the message says why."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One submission of a request.

    Attributes:
        lab: The skill's.
        exercise: The learner's file, or None.
        trouble: Why there is none.
        key: The client's own name for it, see `verify.store.Store.finished`.
    """

    lab: Lab
    exercise: bytes | None
    trouble: str | None = None
    key: str | None = None


def submissions(told: dict[str, Any], folder: Path) -> list[Wanted]:
    """Return what the request ``told`` wants judged, of the labs in ``folder``."""
    labs = {lab.skill: lab for lab in find_labs(folder)}
    skills = told.get("skills")
    if not isinstance(skills, list) or not skills:
        raise Refused("no skill was named")
    if len(skills) > _SKILLS:
        raise Refused(f"a request may name {_SKILLS} skills")
    return [_submission(item, labs) for item in skills]


def _submission(item: Any, labs: dict[str, Lab]) -> Wanted:
    if not isinstance(item, dict) or str(item.get("skill")) not in labs:
        raise Refused("an unknown skill")
    lab, exercise, trouble = labs[item["skill"]], item.get("exercise"), item.get("trouble")
    if not isinstance(exercise, bytes | None) or not isinstance(trouble, str | None):
        raise Refused("an exercise that is no file")
    if not lab.exercise:
        return Wanted(lab, None, key=_key(item))
    if exercise is None and trouble is None:
        raise Refused("an exercise without a file")
    if exercise is not None and len(exercise) > MAX_EXERCISE:
        exercise, trouble = None, f"exercise.py is larger than {MAX_EXERCISE} bytes."
    return Wanted(lab, exercise, trouble, _key(item))


def selftest(folder: Path) -> Wanted:
    """Return the first exercise with its own solution: what must pass where all works."""
    labs = [lab for lab in find_labs(folder) if lab.exercise]
    if not labs:
        raise Refused(f"there is no exercise in {folder}")
    return Wanted(labs[0], (labs[0].folder / "solution.py").read_bytes())


def seed(told: dict[str, Any]) -> int | None:
    """Return the seed that a request asks for, or None: a fresh one."""
    asked = told.get("seed")
    if asked is not None and (type(asked) is not int or not 0 <= asked < 2**63):
        raise Refused("a seed is a number from 0 to 2**63 - 1")
    return asked


def _key(item: dict[str, Any]) -> str | None:
    key = item.get("key")
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= _KEY):
        raise Refused(f"a key is a text of 1 to {_KEY} characters")
    return key

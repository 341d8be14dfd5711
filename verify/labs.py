"""Finding the labs: a folder with a ``lab.toml`` is a skill, and nothing else is."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from pathlib import Path
from typing import Any

from verify.results import CheckResult, SkillResult, is_ready

_SKILL = re.compile(r"[a-z][a-z0-9-]{0,40}")


class LabError(Exception):
    """A lab's folder is not as it should be: a fault of ours, never the learner's."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one job may take.

    Attributes:
        seconds: Of time, for all of its checks.
        memory_bytes: Beyond what the libraries map.
        file_bytes: In each file.
        disk_bytes: In all files of its folder together, and as much again in shared memory.
        output_bytes: Of what it prints that are kept.
        gpu_share: Of each GPU's memory, that torch's allocator may hand out.
        threads: That torch may use; jobs run beside each other, one for each core.
    """

    seconds: float = 60.0
    memory_bytes: int = 4 * 1024**3
    file_bytes: int = 64 * 1024**2
    disk_bytes: int = 256 * 1024**2
    output_bytes: int = 64 * 1024
    gpu_share: float = 0.5
    threads: int = 1


@dataclasses.dataclass(frozen=True)
class Lab:
    """A skill as ``labs/<skill>/lab.toml`` describes it.

    Attributes:
        skill: The id: the folder's name.
        folder: Where it is.
        title: What the learner calls it.
        order: Its place among the others.
        required: Whether it counts for readiness.
        review: What to review when it is not ready.
        functions: The signatures that ``exercise.py`` must define, by function name.
        limits: What one job may take.
        exercise: Whether there is one; a lab without it checks the machine, and is never required.
    """

    skill: str
    folder: Path
    title: str
    order: int
    required: bool
    review: str
    functions: dict[str, str]
    limits: Limits
    exercise: bool = True

    def result(
        self,
        checks: list[CheckResult],
        *,
        job: str = "",
        sha256: str | None = None,
        output: str = "",
    ) -> SkillResult:
        """Return what ``checks`` add up to, for an exercise of that hash, if there is one."""
        return SkillResult(
            skill=self.skill,
            title=self.title,
            required=self.required,
            ready=is_ready(checks),
            review=self.review,
            job=job,
            exercise_sha256=sha256,
            checks=checks,
            output=output,
        )


def find_labs(root: Path) -> list[Lab]:
    """Return the labs in ``root`` by their order.

    Raises:
        LabError: a ``lab.toml`` cannot be read.
    """
    labs = [read_lab(file.parent) for file in root.glob("*/lab.toml")]
    return sorted(labs, key=lambda lab: (lab.order, lab.skill))


def read_lab(folder: Path) -> Lab:
    """Return the lab in ``folder``; raise `LabError` if its ``lab.toml`` is not right."""
    try:
        told: dict[str, Any] = tomllib.loads((folder / "lab.toml").read_text("utf-8"))
        if not _SKILL.fullmatch(folder.name):
            raise LabError(f"{folder}: a skill is named in lower case, with hyphens")
        exercise = told.get("exercise", True)
        if exercise is not True and (exercise is not False or told["required"]):
            raise LabError(f"{folder}: exercise is true, or it is false and required is false")
        return Lab(
            skill=folder.name,
            folder=folder,
            title=str(told["title"]),
            order=int(told["order"]),
            required=bool(told["required"]),
            review=str(told["review"]),
            functions=_functions(told["functions"] if exercise else {}),
            limits=Limits(**told.get("limits", {})),
            exercise=exercise,
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise LabError(f"{folder / 'lab.toml'}: {type(error).__name__}: {error}") from error


def _functions(told: dict[str, Any]) -> dict[str, str]:
    return {str(name): str(text) for name, text in told.items()}


def near(skill: str, known: list[str]) -> list[str]:
    """Return the known skills whose names are near ``skill``, the nearest first."""
    starts = [name for name in known if skill and name.startswith(skill.lower())]
    alike = difflib.get_close_matches(skill.lower(), known, n=3, cutoff=0.5)
    return list(dict.fromkeys(starts + alike))

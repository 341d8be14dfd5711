"""The learner's folder: starters and lessons put there once, and nothing of theirs overwritten."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from verify.lab.problems import Misuse, Problem
from verify.labs import Lab, LabError, find_labs, near

if TYPE_CHECKING:
    from pathlib import Path

    from verify.lab.layout import Layout

EXERCISE = "exercise.py"
LESSON = "README.md"
START_PAGE = "README.md"
_PICTURES = (".png", ".svg", ".jpg")  # what a lesson may show; nothing else leaves a lab's folder

_START = """\
# Welcome to the lab

Each lab is a short lesson and an exercise. Read the lesson, write the functions the exercise
asks for, save, then open a terminal here (**File > New > Terminal**) and ask whether you are
ready:

```
invoke verify --skill {first}
```

It says what passed, what did not and why, and what to review. `invoke verify` asks about all.

| | lab | lesson | exercise | |
|---|---|---|---|---|
{rows}

A lesson opens as a page. To run its code: right-click the file on the left, **Open With >
Notebook**.

Your files in this folder are yours: nothing here overwrites them. To begin an exercise again,
`invoke lab.reset --skill {first}` puts the starter back and keeps what you wrote beside it.
"""


def labs_of(layout: Layout) -> list[Lab]:
    """Return the labs that have an exercise, by their order.

    Raises:
        Problem: a lab's folder is not as it should be, or there is none.
    """
    try:
        labs = [lab for lab in find_labs(layout.labs) if lab.exercise]
    except LabError as error:
        raise Problem(
            str(error), cause="the lab's folder was changed", type_this="git status labs"
        ) from error
    unusable = [str(lab.folder) for lab in labs if not (lab.folder / EXERCISE).is_file()]
    if unusable or not labs:
        raise Problem(
            f"{' and '.join(unusable)} has no {EXERCISE}."
            if unusable
            else f"There is no lab in {layout.labs}.",
            cause="files of the project were removed",
            type_this="git status labs",
        )
    return labs


def fill(layout: Layout) -> str:
    """Put starters, lessons and the start page where they are missing; return it as one line.

    A starter is only ever put where there is no file of its name. A lesson or the start page is
    replaced by a newer one as long as the learner has not changed it.
    """
    labs = labs_of(layout)
    shipped = _Shipped(layout)
    starters = 0
    for lab in labs:
        folder = layout.workspace / lab.skill
        if folder.is_symlink():  # it leads out of the workspace: not ours to fill
            continue
        folder.mkdir(parents=True, exist_ok=True)
        starters += _put_where_absent(lab.folder / EXERCISE, folder / EXERCISE)
        for source in (lab.folder / LESSON, *_pictures(lab)):
            if source.exists():
                shipped.put(source.read_bytes(), folder / source.name)
    shipped.put(start_page(labs).encode(), layout.workspace / START_PAGE)
    shipped.save()
    new = f", {starters} new exercise{'s' * (starters != 1)}" if starters else ", yours kept"
    return f"Workspace: {layout.workspace}, {len(labs)} lab{'s' * (len(labs) != 1)}{new}"


def start_page(labs: list[Lab]) -> str:
    """Return the page that JupyterLab opens with, in Markdown."""
    rows = [
        f"| {number} | {lab.title} | [lesson]({lab.skill}/{LESSON}) "
        f"| [exercise]({lab.skill}/{EXERCISE}) | {'' if lab.required else 'optional'} |"
        for number, lab in enumerate(labs, 1)
    ]
    return _START.format(first=labs[0].skill, rows="\n".join(rows))


def reset(layout: Layout, skill: str) -> str:
    """Put the starter of ``skill`` back, keep the old file beside it, and say what was done.

    Raises:
        Misuse: there is no such skill.
    """
    lab = _lab(layout, skill)
    folder = layout.workspace / skill
    folder.mkdir(parents=True, exist_ok=True)
    exercise = folder / EXERCISE
    if _put_where_absent(lab.folder / EXERCISE, exercise):
        return f"{exercise} is the starter."
    if exercise.is_file() and exercise.read_bytes() == (lab.folder / EXERCISE).read_bytes():
        return f"{exercise} is the starter already."
    kept = _unused(folder)
    exercise.rename(kept)
    _put_where_absent(lab.folder / EXERCISE, exercise)
    return (
        f"{exercise} is the starter again; your file is kept as {kept.name}. "
        "If it is open in JupyterLab: File, Reload from Disk."
    )


class _Shipped:
    """Remembers what was put into the workspace, to know a learner's change from ours."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        try:
            self._hashes = dict(json.loads(layout.shipped.read_text()))
        except (OSError, ValueError, TypeError):
            self._hashes = {}

    def put(self, content: bytes, target: Path) -> None:
        """Write ``content`` unless the learner has changed, or made, ``target``."""
        name = str(target.relative_to(self._layout.workspace))
        if target.exists() or target.is_symlink():
            there = target.read_bytes() if target.is_file() else b""
            if there != content and _hash(there) != self._hashes.get(name):
                return
        _replace(target, content)
        self._hashes[name] = _hash(content)

    def save(self) -> None:
        """Write down what was put where."""
        _replace(self._layout.shipped, json.dumps(self._hashes, indent=2, sort_keys=True).encode())


def _replace(target: Path, content: bytes) -> None:
    """Write ``target`` anew, whole or not at all; a link with a name of ours is not followed."""
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)
    with new.open("xb") as file:
        file.write(content)
    new.replace(target)


def _lab(layout: Layout, skill: str) -> Lab:
    labs = {lab.skill: lab for lab in labs_of(layout)}
    if skill not in labs:
        alike = near(skill, list(labs))
        there = f"There is no skill `{skill}`." if skill else "Which skill is meant?"
        meant = f"Did you mean {' or '.join(alike)}? " if alike else ""
        raise Misuse(
            f"{there} {meant}The skills are: {', '.join(labs)}.",
            type_this=f"invoke lab.reset --skill {(alike or list(labs))[0]}",
        )
    return labs[skill]


def _put_where_absent(source: Path, target: Path) -> bool:
    """Copy ``source`` unless ``target`` exists; return whether it was copied."""
    content = source.read_bytes()
    if target.is_symlink():  # also one that leads nowhere: it is the learner's
        return False
    try:
        file = target.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(content)
    except BaseException:  # half a starter would be kept for good as if it were the learner's
        target.unlink()
        raise
    return True


def _pictures(lab: Lab) -> list[Path]:
    return sorted(file for file in lab.folder.iterdir() if file.suffix in _PICTURES)


def _unused(folder: Path) -> Path:
    """Return a name for the learner's old exercise that no file has."""
    now = time.strftime("%Y%m%d-%H%M%S")
    names = [f"exercise.{now}.py", *(f"exercise.{now}-{n}.py" for n in range(2, 100))]
    return next(folder / name for name in names if not (folder / name).exists())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

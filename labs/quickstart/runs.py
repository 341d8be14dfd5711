"""The folders of runs: which one a command goes on with, and what is in it."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from verify.lab.layout import here
from verify.lab.problems import Misuse, Problem

Settings = dict[str, str | int | float]
"""What decides the result of a run, its number of steps apart."""

_NUMBERED: Final = re.compile(r"(\d+)-\w+")


class Run:
    """One run's folder.

    What is in it: ``settings.json``, ``checkpoints/``, ``before.json``, ``adapter/``, ``loss.png``,
    ``report.json``; the last is written when all else is there.
    """

    def __init__(self, folder: Path, *, again: bool = False) -> None:
        self.folder = folder
        self._again = again

    @property
    def is_new(self) -> bool:
        """Whether `begin` has to make it."""
        return self._again or self.settings is None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was learned in it yet."""
        return self.checkpoint is None and self.report is None

    def begin(self, settings: Settings) -> None:
        """Make the folder; an earlier one of its name gets a number behind it.

        Raises:
            Problem: nothing can be written there.
        """
        try:
            if self._again:
                self.folder.rename(_unused(self.folder))
                self._again = False
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "before.json").unlink(missing_ok=True)
            self.write("settings.json", settings)
        except OSError as error:
            raise Problem(
                f"{self.folder} cannot be written: {error.strerror}.",
                cause="it belongs to another user, is on a read-only disk, or the disk is full",
                type_this="the same with --output DIR, a folder of yours",
            ) from error

    @property
    def settings(self) -> Settings | None:
        """What it was begun with."""
        found: Settings | None = _read(self.folder / "settings.json")
        return found

    @property
    def report(self) -> dict[str, Any] | None:
        """What it ended with, if it has."""
        found: dict[str, Any] | None = _read(self.folder / "report.json")
        return found

    @property
    def checkpoints(self) -> Path:
        """Where Trainer keeps them."""
        return self.folder / "checkpoints"

    @property
    def checkpoint(self) -> Path | None:
        """The last one that is whole: Trainer writes its state when all else is written."""
        whole = [
            folder
            for folder in self.checkpoints.glob("checkpoint-*")
            if _read(folder / "trainer_state.json") is not None
        ]
        return max(whole, key=steps_of, default=None)

    def read(self, name: str) -> Any:
        """Return what `write` wrote, or None."""
        return _read(self.folder / name)

    def write(self, name: str, content: Any) -> None:
        """Write ``content`` as JSON, whole or not at all."""
        new = self.folder / f".{name}.new"
        new.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        new.replace(self.folder / name)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let one command at a time work on this run.

        Raises:
            Problem: another one does.
        """
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Problem(
                    f"Another command works on {self.folder}.",
                    cause="the same command runs already, in another terminal perhaps",
                    type_this="invoke quickstart --fresh  # for a run beside it; or wait",
                ) from None
            yield


def steps_of(checkpoint: Path | None) -> int:
    """Return after how many steps a checkpoint was saved; 0 for none."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def find(home: Path, output: Path | None, settings: Settings, *, fresh: bool) -> Run:
    """Return the run to go on with, or one that `Run.begin` has to make.

    Args:
        home: Where runs are, each in a folder of its own.
        output: The folder that was asked for.
        settings: What decides the result; a run with others is another run.
        fresh: Whether to begin again. What is there stays: as it is in ``home``; an ``output``
            gets another name.

    Raises:
        Misuse: ``output`` holds something else.
    """
    if output is not None:
        return _asked_for(output.expanduser().absolute(), settings, fresh=fresh)
    known = sorted((it for it in home.glob("*") if _NUMBERED.fullmatch(it.name)), key=_number)
    same = [Run(folder) for folder in known if Run(folder).settings == settings]
    if same and not fresh:
        return same[-1]
    number = _number(known[-1]) + 1 if known else 1
    return Run(home / f"{number}-{settings['method']}")


def put_page(home: Path) -> None:
    """Put the page that explains runs beside them, unless there is one."""
    page = Path(__file__).parent / "README.md"
    if home.is_dir() and not (home / page.name).exists():
        (home / page.name).write_bytes(page.read_bytes())


def shown(place: Path) -> str:
    """Return a place without the project's folder: so host and container see the same."""
    for home, name in ((here().workspace, "workspace"), (here().root, "")):
        if place.is_relative_to(home):
            return str(Path(name, place.relative_to(home)))
    return str(place)


def _asked_for(folder: Path, settings: Settings, *, fresh: bool) -> Run:
    run = Run(folder)
    there = run.settings
    if folder.exists() and there is None and not (folder.is_dir() and not any(folder.iterdir())):
        raise Misuse(
            f"{folder} holds something that is no run of this command.",
            cause="--output names a folder that is not there yet, or an earlier run's",
            type_this=f"the same with --output {folder}-run",
        )
    if there is None or there == settings or fresh:
        return Run(folder, again=fresh and there is not None)
    if run.is_empty:  # it was stopped before it had learned anything
        run.begin(settings)
        return run
    other = [
        f"{name}: {there.get(name)} there, {settings.get(name)} now"
        for name in sorted({*there, *settings})
        if there.get(name) != settings.get(name)
    ]
    raise Misuse(
        f"{folder} holds a run with other settings ({'; '.join(other)}).",
        cause="a run goes on with the settings it was begun with",
        type_this="the same with another --output, or with --fresh: the old one gets a new name",
    )


def _unused(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}.{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _number(folder: Path) -> int:
    found = _NUMBERED.fullmatch(folder.name)
    return int(found[1]) if found else 0


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None

"""How far an installation is: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from verify.lab.steps import Steps

# One such line comes for each line of the lock file, whether pip has to fetch a file or not;
# pips before 23.1 name the file it came from only in the third kind.
_PACKAGE = re.compile(
    r"(?:(?:Collecting|Processing) (?:\S*/)?|Requirement already satisfied: (?=.* \(from -r )|"
    r"Ignoring (?=.*: markers ))([\w.]+(?:-[a-zA-Z][\w.]*)*)"
)
_FETCHING = re.compile(r"\s*Downloading (?:\S*/)?([\w.]+)-\S+ \(([\d.]+ [kMG]B)\)")
_BYTES = re.compile(r"Progress (\d+) of (\d+)")
_INSTALLING = re.compile(r"Installing collected packages: ")
_RETRYING = re.compile(r"WARNING: Retrying ")
_PLAIN_EVERY = 25  # packages between two plain lines


class Installation:
    """Follows one run of pip over ``total`` packages by what it prints and what has arrived.

    A package counts once when its file is found or fetched, and once when it is in ``site``.
    """

    def __init__(self, total: int, site: Path) -> None:
        self.total = total
        self.doing = "looking at what is there"
        self._site = site
        self._found = 0
        self._file_part = 0.0
        self._before = 0
        self._writing = False

    @property
    def part(self) -> float:
        """How much is done, from 0 to 1."""
        fetched = min(self._found + self._file_part, self.total)
        written = self._arrived() - self._before if self._writing else 0
        return min((fetched + max(0, written)) / (2 * self.total), 1.0)

    @property
    def found(self) -> int:
        """How many packages pip has found."""
        return self._found

    def hear(self, line: str) -> None:
        """Take in one line of pip's output."""
        if found := _PACKAGE.match(line):
            self._found += 1
            self._file_part = 0.0
            self.doing = f"finding {found[1]}"
        elif found := _FETCHING.match(line):
            self.doing = f"fetching {found[1]} ({found[2]})"
        elif found := _BYTES.match(line):
            # The package was counted when it was named: what is still to come is taken off.
            self._file_part = int(found[1]) / max(1, int(found[2])) - 1.0
        elif _INSTALLING.match(line):
            self._writing, self._before, self._file_part = True, self._arrived(), 0.0
            self.doing = "writing files"
        elif _RETRYING.match(line):
            self.doing = "the package index does not answer yet; trying again"

    def _arrived(self) -> int:
        """Return how many packages are whole: pip writes RECORD last."""
        return sum(1 for _ in self._site.glob("*.dist-info/RECORD"))


@contextlib.contextmanager
def shown(steps: Steps, title: str, installation: Installation) -> Iterator[_Bar | _Lines]:
    """Yield what takes pip's lines and shows the progress of ``installation``."""
    if not steps.console.is_terminal:
        steps.say(f"  {title}")
        yield _Lines(steps, installation)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
    )
    with Progress(
        *columns, TextColumn("{task.fields[doing]}", markup=False), TimeElapsedColumn(),
        console=steps.console, transient=True,
    ) as progress:  # fmt: skip
        yield _Bar(progress, progress.add_task(title, total=1.0, doing=""), installation)


class _Bar:
    """Shows an installation as a progress bar."""

    def __init__(self, progress: Progress, task: TaskID, installation: Installation) -> None:
        self._progress = progress
        self._task = task
        self._installation = installation

    def __call__(self, line: str | None) -> None:
        if line is not None:
            self._installation.hear(line)
        self._progress.update(
            self._task,
            completed=self._installation.part,
            doing=self._installation.doing,
        )


class _Lines:
    """Says in plain lines when something long begins, and every so many packages."""

    def __init__(self, steps: Steps, installation: Installation) -> None:
        self._steps = steps
        self._installation = installation
        self._said: set[str] = set()

    def __call__(self, line: str | None) -> None:
        if line is None:
            return
        self._installation.hear(line)
        found, doing = self._installation.found, self._installation.doing
        if found and found % _PLAIN_EVERY == 0:
            self._once(f"    {found} of {self._installation.total} packages")
        if doing.startswith(("writing", "the package index")):
            self._once(f"    {doing}")

    def _once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._steps.say(text)

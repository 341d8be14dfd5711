"""A lab of its own in a temporary folder: this project's code, some labs, a resident runner.

So a benchmark touches neither the lab that is up nor its results, and what is timed is what a
learner types: ``invoke verify`` in a project's folder.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SETTLES = 4.0  # seconds; a new runner goes on with `verify.huge_pages` while nothing is asked
sys.path.insert(0, str(PROJECT))  # for a Python in which the project is not installed

from verify.lab import runner  # noqa: E402
from verify.lab.layout import Layout  # noqa: E402


class OwnLab:
    """A copy of the project with the labs of ``labs``; see `own_lab`."""

    def __init__(self, root: Path, labs: Path) -> None:
        self.layout = Layout(root)
        venv = Layout(PROJECT).venv
        if not venv.exists():
            raise SystemExit("There is no lab environment to measure with. Type: invoke lab.up")
        unmade = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / "verify", root / "verify", ignore=unmade)
        shutil.copytree(labs, root / "labs", ignore=unmade)
        shutil.copy(PROJECT / "tasks.py", root)
        self.layout.prepare()
        self.layout.venv.symlink_to(venv)

    @property
    def skills(self) -> list[str]:
        """The skills that have an exercise."""
        return sorted(file.parent.name for file in self.layout.labs.glob("*/solution.py"))

    def solution(self, skill: str) -> bytes:
        """Return the solution of a skill."""
        return (self.layout.labs / skill / "solution.py").read_bytes()

    def write(self, skill: str, exercise: bytes) -> None:
        """Put an exercise into the workspace."""
        file = self.layout.workspace / skill / "exercise.py"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(exercise)

    def run(self, shown: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run what is typed as ``invoke ...`` in the copy's folder."""
        command = [sys.executable, "-m", *shown]
        return subprocess.run(command, cwd=self.layout.root, capture_output=True, check=False)

    def start_again(self) -> int:
        """Start the resident runner after its end; return its process id."""
        identity = runner.start(self.layout)
        runner.wait(self.layout, identity)
        return identity.pid

    @contextlib.contextmanager
    def resident(self) -> Iterator[int]:
        """Run a resident runner, as ``lab.up`` starts it; yield its process id."""
        try:
            pid = self.start_again()
            time.sleep(SETTLES)
            yield pid
        finally:
            runner.service(self.layout).stop()


@contextlib.contextmanager
def own_lab(labs: Path) -> Iterator[OwnLab]:
    """Yield a lab of its own with the labs in ``labs``; its folder is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        Path(folder).chmod(0o755)  # a learner's user must reach the libraries through it
        yield OwnLab(Path(folder), labs)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return median, least and most as three cells of a table."""
    cells = (statistics.median(values), min(values), max(values))
    return " | ".join(format(value, form) for value in cells)

"""The project's own tests and checks, run on the lab's environment."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from verify.lab import assets, environment

if TYPE_CHECKING:
    from verify.lab.layout import Layout
    from verify.lab.steps import Steps


def commands(layout: Layout) -> dict[str, list[str]]:
    """Return what `invoke check` runs besides the tests, by what it is called."""
    python = [str(layout.python), "-m"]
    labs = sorted(file.parent.name for file in layout.labs.glob("*/lab.toml"))
    packages = sorted(file.parent.name for file in layout.labs.glob("*/__init__.py"))
    ours = ["--extend-exclude", "workspace", "."]  # a learner's files are not the project's
    return {
        "lint": [*python, "ruff", "check", *ours],
        "format": [*python, "ruff", "format", "--check", *ours],
        "types": [*python, "mypy", "verify", "tasks.py", "benchmarks"],
        # One run for each: the parts of all labs have the same names.
        **{f"types of {name}": [*python, "mypy", f"labs/{name}"] for name in labs},
        **{f"types of {name}": [*python, "mypy", "-p", f"labs.{name}"] for name in packages},
    }


def test(layout: Layout, steps: Steps, arguments: list[str]) -> int:
    """Run the tests with pytest's ``arguments``; return its exit code."""
    _prepare(layout, steps)
    return _run(layout, [str(layout.python), "-m", "pytest", *arguments])


def check(layout: Layout, steps: Steps, arguments: list[str]) -> int:
    """Run lint, types and tests with pytest's ``arguments``; return 0 when all are clean."""
    _prepare(layout, steps)
    failed = []
    for name, command in commands(layout).items():
        steps.say(f"{name}: {shlex.join(command[2:])}")
        if _run(layout, command):
            failed.append(name)
    steps.say("tests")
    if _run(layout, [str(layout.python), "-m", "pytest", *arguments]):
        failed.append("tests")
    steps.say(f"Not clean: {', '.join(failed)}." if failed else "All clean.")
    return int(bool(failed))


def pytest_arguments(expression: str | None, more: str, remainder: str) -> list[str]:
    """Return pytest's arguments from `-k`, `--args` and what stands after `--`."""
    chosen = ["-k", expression] if expression else []
    return [*chosen, *shlex.split(more), *shlex.split(remainder)]


def _prepare(layout: Layout, steps: Steps) -> None:
    layout.prepare()
    if not environment.is_ready(layout, tests=True):
        steps.say("Making the environment for the tests; the first time takes some minutes:")
        steps.ticked(environment.make(layout, steps, tests=True))
    assets.make(layout, steps)


def _run(layout: Layout, command: list[str]) -> int:
    sys.stdout.flush()
    return subprocess.run(command, cwd=layout.root, check=False).returncode  # noqa: S603

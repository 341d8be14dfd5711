"""The project's own checks: what they run, and what their outcome is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.conftest import Said
from verify.lab import assets, environment, quality
from verify.lab.layout import Layout


@pytest.fixture(autouse=True)
def environment_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "python", Path(sys.executable))
    monkeypatch.setattr(environment, "is_ready", lambda *_, **__: True)
    monkeypatch.setattr(assets, "make", lambda _layout, steps: steps.say("assets"))


def test_lint_format_and_types_are_checked_and_the_learners_files_are_not(layout: Layout) -> None:
    (layout.labs / "shared").mkdir()
    (layout.labs / "shared" / "__init__.py").touch()
    commands = quality.commands(layout)
    labs = {f"types of {name}" for name in ("double", "halve", "shared")}
    assert set(commands) == {"lint", "format", "types", *labs}
    assert commands["types of double"][-2:] == ["mypy", "labs/double"]
    assert commands["types of shared"][-3:] == ["mypy", "-p", "labs.shared"]
    assert all(command[:2] == [sys.executable, "-m"] for command in commands.values())
    (layout.workspace / "double").mkdir()
    (layout.workspace / "double" / "exercise.py").write_text("import os ; x=1 ;")
    (layout.root / "fine.py").write_text('"""Fine."""\n')
    shutil.rmtree(layout.labs)
    for name in ("lint", "format"):
        assert subprocess.run(commands[name], cwd=layout.root, check=False).returncode == 0
    (layout.root / "not_fine.py").write_text("import os ; x=1 ;")
    for name in ("lint", "format"):
        assert subprocess.run(commands[name], cwd=layout.root, check=False).returncode == 1


def test_the_tests_run_in_the_project_and_their_code_comes_back(layout: Layout, said: Said) -> None:
    (layout.root / "test_it.py").write_text("def test_yes(): pass\ndef test_no(): assert False\n")
    assert quality.test(layout, said, ["-q", "-k", "yes"]) == 0
    assert said.text == "assets\n"  # what tests need is made before
    assert quality.test(layout, said, ["-q"]) == 1


def test_all_checks_run_although_one_fails(
    layout: Layout, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails, passes = [sys.executable, "-c", "raise SystemExit(1)"], [sys.executable, "-c", ""]
    monkeypatch.setattr(quality, "commands", lambda _layout: {"first": fails, "second": passes})
    (layout.root / "test_it.py").write_text("def test_yes(): pass\n")
    assert quality.check(layout, said, []) == 1
    assert said.text.splitlines()[-1] == "Not clean: first."
    monkeypatch.setattr(quality, "commands", lambda _layout: {"second": passes})
    assert quality.check(layout, said, []) == 0
    assert said.text.splitlines()[-1] == "All clean."


def test_pytest_gets_what_was_typed_in_three_ways() -> None:
    assert quality.pytest_arguments(None, "", "") == []
    assert quality.pytest_arguments("a or b", '-x "two words"', "-k foo") == [
        "-k", "a or b", "-x", "two words", "-k", "foo",
    ]  # fmt: skip

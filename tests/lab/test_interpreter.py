"""The environment is made with a Python the locks know and, for root, that others can reach."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from verify.lab import interpreter
from verify.lab.interpreter import Interpreter, ask, choose, closed_folder
from verify.lab.problems import Problem

PROJECT = Path(__file__).parents[2]


def python(folder: Path, version: str = "3.11") -> Interpreter:
    folder.mkdir(parents=True)
    (folder / "python").touch()
    return Interpreter(folder / "python", version, folder)


def choosing(
    monkeypatch: pytest.MonkeyPatch, own: Interpreter, others: list[Interpreter], uid: int
) -> interpreter.Choice:
    monkeypatch.setattr(interpreter, "this", lambda: own)
    monkeypatch.setattr(interpreter, "others", lambda first: others)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    return choose()


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Interpreter:
    """A Python below a folder that other users cannot pass; all others can be reached."""
    folder = tmp_path / "closed"

    def closed_folder(path: Path) -> Path | None:
        return folder if path.is_relative_to(folder) else None

    monkeypatch.setattr(interpreter, "closed_folder", closed_folder)
    return python(folder / "bin")


def test_the_python_of_invoke_is_the_usual_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = python(tmp_path / "own")
    assert choosing(monkeypatch, own, [], uid=1000) == interpreter.Choice(own)


def test_root_takes_one_that_learner_code_can_reach_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: Interpreter
) -> None:
    reachable = python(tmp_path / "open")
    choice = choosing(monkeypatch, closed, [closed, reachable], uid=0)
    assert choice.interpreter == reachable
    assert str(tmp_path / "closed") in choice.remark
    assert choosing(monkeypatch, closed, [reachable], uid=1000).interpreter == closed


def test_root_without_another_goes_on_and_is_told_what_will_be_missing(
    monkeypatch: pytest.MonkeyPatch, closed: Interpreter
) -> None:
    choice = choosing(monkeypatch, closed, [], uid=0)
    assert choice.interpreter == closed
    assert "without a user of its own" in choice.remark


def test_a_python_without_a_lock_gives_way_to_one_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = python(tmp_path / "own", "3.14"), python(tmp_path / "other", "3.12")
    assert choosing(monkeypatch, own, [other], uid=1000).interpreter == other
    with pytest.raises(Problem, match=r"Python 3\.14 is not one") as caught:
        choosing(monkeypatch, own, [], uid=1000)
    assert "invoke lab.up" in caught.value.type_this


def test_a_machine_without_a_lock_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter.platform, "machine", lambda: "riscv64")
    with pytest.raises(Problem, match="riscv64"):
        choose()


def test_the_folder_that_closes_the_way_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    closed_ones = [it for it in reversed(inner.parents) if not it.stat().st_mode & 0o001]
    first = closed_ones[0] if closed_ones else None  # pytest's own folders are closed
    assert closed_folder(inner / "file") == first
    tmp_path.chmod(0o700)
    assert closed_folder(inner / "file") == (first or tmp_path)
    assert closed_folder(Path("/usr/bin/env")) is None


def test_a_link_into_a_closed_folder_is_closed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "python").touch()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        link = Path(folder, "python")
        assert closed_folder(link) is None
        link.symlink_to(secret / "python")
        assert closed_folder(link) is not None


def test_a_real_python_answers_for_itself() -> None:
    own = ask(Path(sys.executable))
    assert own is not None
    assert own.version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert (own.library / "os.py").exists()


def test_what_is_no_python_does_not_answer(tmp_path: Path) -> None:
    assert ask(tmp_path / "missing") is None
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    assert ask(broken) is None
    talks = tmp_path / "talks"
    talks.write_text("#!/bin/sh\necho hello\n")
    talks.chmod(0o755)
    assert ask(talks) is None


def test_other_pythons_are_looked_for_on_the_path_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "python3.13"
    fake.write_text(f'#!/bin/sh\necho \'["{fake}", 3, 13, "/lib"]\'\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert Interpreter(fake, "3.13", Path("/lib")) in interpreter.others(first="3.11")


def test_the_lock_files_say_the_same_as_the_code() -> None:
    for lock in (PROJECT / "images" / "locks").glob("*.lock"):
        head = lock.read_text().split("==")[0]
        assert tuple(re.findall(r"\b3\.\d+", head)) == interpreter.PYTHONS, lock
        for machine in interpreter.MACHINES:
            assert machine in head, lock

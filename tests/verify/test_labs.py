"""Finding labs: the folder is the registration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import COURSES
from verify.labs import LabError, find_labs, near

TOML = """title = "T"
order = {order}
required = true
review = "R"
[functions]
f = "f()"
"""


def write(root: Path, skill: str, text: str) -> None:
    (root / skill).mkdir()
    (root / skill / "lab.toml").write_text(text)


def test_labs_come_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, "b", TOML.format(order=2))
    write(tmp_path, "a", TOML.format(order=3))
    write(tmp_path, "c", TOML.format(order=1))
    (tmp_path / "notes").mkdir()
    assert [lab.skill for lab in find_labs(tmp_path)] == ["c", "b", "a"]


def test_limits_have_defaults_and_can_be_given() -> None:
    (lab,) = find_labs(COURSES / "outcomes")
    assert (lab.limits.seconds, lab.limits.output_bytes) == (20, 64 * 1024)


@pytest.mark.parametrize(
    "text",
    [
        "title = ",
        'title = "T"',
        TOML.format(order=1) + "[limits]\nminutes = 3\n",
        TOML.format(order='"x"'),
    ],
)
def test_a_lab_that_is_not_right_is_our_error(tmp_path: Path, text: str) -> None:
    write(tmp_path, "a", text)
    with pytest.raises(LabError, match=r"lab\.toml"):
        find_labs(tmp_path)


def test_a_lab_may_be_without_an_exercise(tmp_path: Path) -> None:
    text = 'title = "T"\norder = 0\nexercise = false\nrequired = false\nreview = "R"\n'
    write(tmp_path, "machine", text)
    write(tmp_path, "memory", TOML.format(order=1))
    machine, memory = find_labs(tmp_path)
    assert (machine.exercise, machine.functions) == (False, {})
    assert memory.exercise


@pytest.mark.parametrize("exercise", ["false", '"no"', "0"])
def test_a_lab_without_an_exercise_is_never_required(tmp_path: Path, exercise: str) -> None:
    write(tmp_path, "a", f"exercise = {exercise}\n" + TOML.format(order=1))
    with pytest.raises(LabError, match="required is false"):
        find_labs(tmp_path)


def test_a_skill_is_named_in_lower_case(tmp_path: Path) -> None:
    write(tmp_path, "Memory", TOML.format(order=1))
    with pytest.raises(LabError, match="lower case"):
        find_labs(tmp_path)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("memry", ["memory"]), ("Memory", ["memory"]), ("mem", ["memory"]), ("zzz", []), ("", [])],
)
def test_near_names(typed: str, meant: list[str]) -> None:
    assert near(typed, ["pytorch", "memory", "training", "peft"]) == meant

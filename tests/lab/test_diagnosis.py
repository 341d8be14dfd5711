"""Every way an installation fails is one message.

`pip_output/` holds what pip 23 and pip 26 printed when they failed in these ways, with paths and
the index's name changed; `test_environment.py` makes some of the same failures happen.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from verify.lab.diagnosis import diagnose, no_cpu_torch, no_environment, no_match, too_little_space
from verify.lab.pip import Outcome
from verify.lab.problems import Problem

OUTPUTS = Path(__file__).parent / "pip_output"
LOCK, LOG = Path("lab.lock"), Path("/project/.lab/log/install.log")

CASES = [
    ("refused", "No package index answers", "pip config list"),
    ("noname", "No package index answers", "pip config list"),
    ("certificate", "certificate is not trusted", "global.cert"),
    ("none", "no file of no-such-thing-as-this==1.0", "pip config list"),
    ("hash", "idna==3.20 is not the file that lab.lock names", "pip cache purge"),
    ("enospc", "The disk became full", "df -h"),
    ("permission", "site-packages/idna may not be written", "chown"),
]
RECORDED = [
    (file.read_text(), *told)
    for failure, *told in CASES
    for file in sorted(OUTPUTS.glob(f"{failure}-*.txt"))
]
MADE_UP = [
    (-9, "Collecting idna\n", "was killed", "free -h"),
    (1, "ERROR: something new\n", "could not be installed: something new", "invoke lab.up"),
    (7, "", "pip ended with code 7", "invoke lab.up"),
    (
        1,
        "ERROR: Package 'a' requires a different Python: 3.10.2 not in '>=3.11'\n",
        "no file of",
        "",
    ),
]


def told(problem: Problem, happened: str, command: str) -> bool:
    everything = problem.happened + problem.cause
    named = happened in problem.happened and command in problem.type_this
    return named and bool(problem.cause) and str(LOG) in everything


def test_every_recorded_failure_is_in_the_table() -> None:
    assert len(RECORDED) == len(list(OUTPUTS.glob("*.txt"))) - 1  # one is of a success


@pytest.mark.parametrize(("output", "happened", "command"), RECORDED)
def test_each_failure_has_its_message(output: str, happened: str, command: str) -> None:
    assert told(diagnose(Outcome(1, output), LOCK, LOG), happened, command)


@pytest.mark.parametrize(("code", "output", "happened", "command"), MADE_UP)
def test_so_has_each_other_end(code: int, output: str, happened: str, command: str) -> None:
    assert told(diagnose(Outcome(code, output), LOCK, LOG), happened, command)


def recorded(name: str) -> Outcome:
    return Outcome(1, (OUTPUTS / f"{name}.txt").read_text())


def test_another_index_is_tried_only_when_no_file_was_found() -> None:
    assert no_match(recorded("none-pip23"))
    assert no_match(recorded("refused-pip26"))
    assert not no_match(recorded("hash-pip26"))
    assert not no_match(recorded("enospc-pip23"))


def test_a_mirror_without_the_cpu_build_is_told_from_no_network() -> None:
    lacks, offline = recorded("none-pip26"), recorded("noname-pip26")
    assert "PIP_FIND_LINKS" in no_cpu_torch(lacks, offline, LOCK, LOG).type_this
    assert "No package index answers" in no_cpu_torch(offline, offline, LOCK, LOG).happened
    assert "no file of" in no_cpu_torch(lacks, lacks, LOCK, LOG).happened


def test_an_environment_that_cannot_be_made() -> None:
    venv = Path("/project/.lab/venv")
    assert "python3-venv" in no_environment("No module named venv\n", venv).type_this
    assert "no reason was given" in no_environment("", venv).happened
    assert "df -h" in no_environment("OSError: [Errno 28] No space left on device", venv).type_this


def test_too_little_space_says_how_much_and_what_is_needed() -> None:
    problem = too_little_space(10**9, 3 * 10**9, Path("/project"))
    assert "1.0 GB free and the lab needs about 3 GB" in problem.happened

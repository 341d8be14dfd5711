"""``python -m verify``: what a script and a learner see, and the exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import COURSES, PROJECT
from tests.verify.test_host_half import environment
from tests.verify.test_readiness import check, skill
from verify import cli, results
from verify.lab import host

SQUARED = "def double(x):\n    return x ** 2\n\ndef shift(x):\n    return x + 1\n"
RIGHT = "def double(x):\n    return x + x\n\ndef shift(x):\n    return 1 + x\n"


def verify(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a script would."""
    return subprocess.run(
        [sys.executable, "-m", "verify", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "double").mkdir()
    return tmp_path


def toy(workspace: Path, exercise: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    (workspace / "double" / "exercise.py").write_text(exercise)
    labs = (COURSES / "toy").relative_to(PROJECT)  # relative: the runner works elsewhere
    return verify("--labs", labs, "--workspace", workspace, *arguments)


def test_a_right_exercise_is_ready(workspace: Path) -> None:
    came = toy(workspace, RIGHT)
    assert came.returncode == 0, came.stderr
    assert "ready: 3 of 3 checks passed" in came.stdout
    assert "Every required skill is ready" in came.stdout
    assert "standalone runner, sealing full" in came.stdout


def test_a_wrong_one_is_not_and_says_why_and_what_to_review(workspace: Path) -> None:
    came = toy(workspace, SQUARED)
    assert came.returncode == 1
    for told in ("double(", "came back: ", "Hint: Twice is", 'section "Doubling"', "not run"):
        assert told in came.stdout


def test_colour_is_for_terminals_only(workspace: Path) -> None:
    assert "\x1b" not in toy(workspace, SQUARED).stdout


@pytest.mark.parametrize("off", [None, "--no-color", "NO_COLOR"])
def test_colour_on_a_terminal_can_be_turned_off(workspace: Path, off: str | None) -> None:
    (workspace / "double" / "exercise.py").write_text(SQUARED)
    command = [sys.executable, "-m", "verify", "--labs", str(COURSES / "toy")]
    command += ["--workspace", str(workspace), *([off] if off == "--no-color" else [])]
    environment = {**os.environ, "TERM": "xterm"} | ({"NO_COLOR": "1"} if off == "NO_COLOR" else {})
    ours, theirs = os.openpty()
    ended = subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=PROJECT, env=environment)
    os.close(theirs)
    shown = b""
    while part := _read(ours):
        shown += part
    assert ended.wait() == 1
    coloured = re.search(rb"\x1b\[[0-9;]*3[0-9]m", shown)
    assert bool(coloured) is (off is None)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side of a terminal that closes is an error, not an end
        return b""


def test_the_record_is_written_as_json_and_junit(workspace: Path) -> None:
    files = workspace / "run.json", workspace / "run.xml"
    assert (
        toy(workspace, SQUARED, "--json", files[0], "--junit", files[1], "--seed", 4).returncode
        == 1
    )
    record = msgspec.json.decode(files[0].read_bytes(), type=results.Run)
    assert (record.schema, record.seed, record.practice) == (1, 4, True)
    assert record.environment.runtime == "standalone"
    (skill,) = record.skills
    assert [check.status for check in skill.checks] == ["passed", "failed", "not_run"]
    suite = ElementTree.parse(files[1]).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")


def test_the_json_has_every_field_that_was_promised(workspace: Path) -> None:
    file = workspace / "run.json"
    toy(workspace, SQUARED, "--json", file)
    record = json.loads(file.read_bytes())
    assert {"schema", "seed", "environment", "readiness", "skills"} <= record.keys()
    assert {"runtime", "sealing"} <= record["environment"].keys()
    (skill,) = record["skills"]
    assert {"skill", "title", "required", "ready", "checks"} <= skill.keys()
    fields = "name title level evidence status cause message hint misconception seconds"
    assert all(set(fields.split()) <= check.keys() for check in skill["checks"])
    assert skill["checks"][1]["misconception"] == "squared"


def test_the_schema_in_the_documents_is_the_one_in_force() -> None:
    documented = json.loads((PROJECT / "docs" / "result.schema.json").read_bytes())
    assert documented == msgspec.json.schema(results.Run)


def test_practice_is_repeated_by_its_seed(workspace: Path) -> None:
    first, second = (toy(workspace, SQUARED, "--seed", 9).stdout for _ in range(2))
    cut = first.index("Readiness")
    assert first[:cut] == second[:cut]
    assert "practice: the seed was given" in first


def test_a_missing_file_says_what_to_type(workspace: Path) -> None:
    came = verify("--labs", COURSES / "toy", "--workspace", workspace)
    assert came.returncode == 1
    assert "is not there" in came.stdout
    assert "invoke lab.reset --skill double" in " ".join(came.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--skill", "dubble"], "Did you mean `double`?"),
        (["--skill", "zzz"], "The skills are: double."),
        (["--seed", "-1"], "a seed is a number"),
        (["--seed", "abc"], "a seed is a number"),
        (["--runtime", "cloud"], "invalid choice"),
        (["--what"], "unrecognized"),
        (["--skil", "double"], "unrecognized"),
        (["--json", "-"], "give the name of a file"),
        (["--json", "/nowhere/run.json"], "mkdir -p /nowhere"),
    ],
)
def test_wrong_usage_is_exit_code_2(workspace: Path, arguments: list[str], told: str) -> None:
    came = verify("--labs", COURSES / "toy", "--workspace", workspace, *arguments)
    assert came.returncode == 2
    assert told in came.stderr


def test_a_workspace_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    came = verify("--labs", COURSES / "toy", "--workspace", tmp_path / "nowhere")
    assert came.returncode == 2
    assert "There is no folder" in came.stderr


def test_a_reader_that_leaves_changes_neither_verdict_nor_record(workspace: Path) -> None:
    (workspace / "double" / "exercise.py").write_text(RIGHT)
    file = workspace / "run.json"
    command = f"{sys.executable} -m verify --labs {COURSES / 'toy'} --workspace {workspace}"
    piped = f"set -o pipefail; {command} --json {file} | head -1"
    came = subprocess.run(
        ["bash", "-c", piped], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert came.returncode == 0
    assert came.stderr == ""
    assert json.loads(file.read_bytes())["skills"][0]["ready"]


def test_a_python_without_the_libraries_says_so() -> None:
    command = [sys.executable, "-S", "-m", "verify"]
    came = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert came.returncode == 3
    assert "is missing" in came.stderr
    assert "Type: " in came.stderr


def test_our_own_fault_is_exit_code_3(workspace: Path) -> None:
    (workspace / "broken").mkdir()
    (workspace / "broken" / "exercise.py").write_text(RIGHT)
    came = verify("--labs", COURSES / "broken", "--workspace", workspace)
    assert came.returncode == 3
    assert "ZeroDivisionError" in came.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--labs", "/nowhere"], "There is no lab in /nowhere"),
        (["--labs", COURSES / "toy", "--json", "/proc/run.json"], "could not be written"),
    ],
)
def test_a_fault_of_the_environment_is_exit_code_3(
    workspace: Path, arguments: list[object], told: str
) -> None:
    came = verify("--workspace", workspace, *arguments)
    assert came.returncode == 3
    assert told in came.stderr
    assert "Type: " in came.stderr


def test_optional_skills_do_not_count_unless_they_are_asked_for(workspace: Path) -> None:
    (workspace / "acts").mkdir()
    (workspace / "acts" / "exercise.py").write_text("def act(x): return x\n")
    labs = ["--labs", COURSES / "outcomes", "--workspace", workspace]
    assert verify(*labs).returncode == 0
    assert verify(*labs, "--skill", "acts").returncode == 1


def test_a_fault_of_the_machine_is_exit_code_3_and_says_what_to_type(tmp_path: Path) -> None:
    came = verify("--labs", COURSES / "machine", "--skill", "faulty", "--workspace", tmp_path)
    assert came.returncode == 3
    for told in ("It is 3 degrees.", "Likely cause: Somebody left", "Type: close --window | tee"):
        assert told in came.stdout
    assert "First mend what `faulty` names." in came.stdout


def test_both_halves_of_a_machines_checks_are_one_record(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    machine = ["--labs", COURSES / "machine", "--workspace", tmp_path]
    came = verify(*machine, "--skill", "sound", "--json", file)
    record = msgspec.json.decode(file.read_bytes(), type=results.Run)
    (skill,) = record.skills
    names = [check.name for check in skill.checks]
    assert names[:3] == ["warm", "absent", "caches"]
    assert set(names[3:]) == {it.name for it in host.checks()}
    assert skill.ready is results.is_ready(skill.checks)
    assert came.returncode == (0 if skill.ready else 3), came.stdout
    assert record.readiness.missing == []


@pytest.mark.parametrize(
    ("status", "cause", "level", "code"),
    [
        ("passed", None, "check", 0),
        ("failed", "environment", "check", 3),
        ("failed", "environment", "advice", 0),
        ("failed", "wrong", "check", 0),  # of an optional skill, when all were asked for
        ("error", None, "advice", 3),
        ("not_run", "missing", "check", 0),
    ],
)
def test_a_fault_counts_for_every_skill(status: Any, cause: Any, level: Any, code: int) -> None:
    optional = skill("machine", True, required=False)
    optional.checks = [check(status, cause, level)]
    record = run_of([optional, skill("a", True)])
    assert cli._exit_code(record, all_skills=True) == code


def run_of(skills: list[results.SkillResult]) -> results.Run:
    where = environment("local", None)
    told = results.Readiness(ready=True, missing=[], not_verified=[], advice="", review={})
    return results.Run(
        seed=1, practice=False, started="", environment=where, readiness=told, skills=skills
    )


def test_the_client_imports_nothing_heavy() -> None:
    script = "import sys, verify.cli; sys.exit(len({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=False).returncode == 0


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    told = capsys.readouterr().out
    for option in ("skill", "workspace", "runtime", "seed", "json", "junit", "labs", "no-color"):
        assert f"--{option}" in told
    assert "Exit codes" in told

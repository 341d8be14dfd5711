"""The menu: what it lists, what each command asks of the modules behind it, and who may read it."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TASKS = PROJECT / "tasks.py"
NAMES = [
    "check",
    "quickstart",
    "test",
    "verify",
    "image.base",
    "image.build",
    "image.verify",
    "lab.down",
    "lab.logs",
    "lab.reset",
    "lab.status",
    "lab.up",
    "memory.plan",
    "node.check",
]


def invoke(*words: str, folder: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "invoke", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_the_menu_lists_every_command_with_what_it_does() -> None:
    shown = invoke("--list").stdout.splitlines()
    lines = [line.split(maxsplit=1) for line in shown if line.startswith("  ") and line[2] != " "]
    assert [name for name, _ in lines] == NAMES
    assert all(text[0].isupper() for _, text in lines)


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_is_explained(name: str) -> None:
    shown = invoke("--help", name)
    assert shown.returncode == 0
    options = shown.stdout.partition("Options:\n")[2].splitlines()
    flags = [line for line in options if line.startswith("  -")]
    assert all(len(flag.split(maxsplit=1)) == 2 for flag in flags)


def test_it_works_from_any_folder_below() -> None:
    assert invoke("--list", folder=PROJECT / "verify" / "lab").returncode == 0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has tasks.py and the labs, and nothing made yet."""
    shutil.copy(TASKS, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "verify", tmp_path / "verify", ignore=ignored)
    shutil.copytree(PROJECT / "images" / "locks", tmp_path / "images" / "locks")
    lab = tmp_path / "labs" / "double"
    lab.mkdir(parents=True)
    (lab / "lab.toml").write_text(
        'title = "T"\norder = 1\nrequired = true\nreview = "R"\n[functions]\nf = "f(x)"\n'
    )
    (lab / "exercise.py").write_text("starter")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["lab.down"], 0, "Nothing of the lab runs."),
        (["lab.down", "lab.down"], 0, "Nothing of the lab runs."),
        (["lab.status"], 3, "Type: invoke lab.up"),
        (["lab.up", "--port", "http"], 2, "Type: invoke lab.up --port 8889"),
        (["lab.up", "--port", "80"], 2, "--port 80 is not a port"),
        (["lab.reset"], 2, "Which skill is meant? The skills are: double."),
        (["lab.reset", "--skill", "duoble"], 2, "Did you mean double?"),
        (["lab.reset", "--skill", "double"], 0, "is the starter"),
        (["lab.logs", "--service", "docker"], 2, "The services are: jupyter, runner"),
        (["lab.logs", "--lines", "many"], 2, "--lines many is not a number"),
        (["lab.logs"], 0, "(nothing yet in"),
    ],
)
def test_commands_end_with_their_code_and_say_what_to_type(
    project: Path, words: list[str], code: int, told: str
) -> None:
    ended = invoke(*words, folder=project)
    assert told in ended.stdout + ended.stderr
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr


def test_verify_hands_every_flag_on(project: Path) -> None:
    cli = project / "verify" / "cli.py"
    cli.write_text("def run(arguments):\n    print(arguments)\n    return 1\n")
    words = ["--skill", "a", "--skill", "b", "--workspace", "w", "--runtime", "local"]
    words += ["--seed", "3", "--json", "j", "--junit", "u", "--labs", "l", "--no-color"]
    ended = invoke("verify", *words, folder=project)
    given = ast.literal_eval(ended.stdout)
    assert sorted(given) == sorted(
        ["--workspace=w", "--runtime=local", "--seed=3", "--json=j", "--junit=u", "--labs=l",
         "--skill=a", "--skill=b", "--no-color"]
    )  # fmt: skip
    assert ended.returncode == 1
    assert ast.literal_eval(invoke("verify", folder=project).stdout) == []


def test_every_flag_of_verify_is_one_of_its_command_line() -> None:
    by_invoke = invoke("--help", "verify").stdout
    by_itself = subprocess.run(
        [sys.executable, "-m", "verify", "--help"], capture_output=True, text=True, cwd=PROJECT,
        check=True,
    ).stdout  # fmt: skip
    for flag in ("skill", "workspace", "runtime", "seed", "json", "junit", "labs"):
        assert f"--{flag}" in by_invoke
        assert f"--{flag}" in by_itself


def test_an_old_python_can_read_it_and_is_told_what_to_type(tmp_path: Path) -> None:
    ast.parse(TASKS.read_text(), feature_version=(3, 8))
    pretend = tmp_path / "old.py"
    pretend.write_text(
        "import runpy, sys\n"
        "sys.version_info = (3, 8, 10, 'final', 0)\n"
        f"runpy.run_path({str(TASKS)!r})\n"
    )
    ended = subprocess.run([sys.executable, pretend], capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    first, *_, last = ended.stderr.splitlines()
    assert first == "This lab needs Python 3.11 or newer, and Invoke runs on Python 3.8 here."
    assert last.startswith("Type: python3.11 -m venv .venv")


def test_a_missing_library_is_told_with_what_installs_it(tmp_path: Path) -> None:
    hidden = "import runpy, sys; sys.modules['rich.console'] = None; sys.modules['rich'] = None;"
    ended = subprocess.run(
        [sys.executable, "-c", f"{hidden} runpy.run_path({str(TASKS)!r})"],
        capture_output=True, text=True, cwd=PROJECT, check=False,
    )  # fmt: skip
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1] == "Type: pip install -e ."
    assert "rich" in ended.stderr.splitlines()[0]

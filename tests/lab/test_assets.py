"""What `lab.up` shows while the labs' model and data are made, and says when they are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.conftest import PROJECT
from tests.lab.conftest import Said
from verify.lab import assets
from verify.lab.layout import Layout
from verify.lab.problems import Problem
from verify.lab.steps import Steps


@pytest.fixture(autouse=True)
def environment_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "python", Path(sys.executable))


def plant(layout: Layout, code: str) -> None:
    """Have the project's `labs.assets` be ``code``."""
    folder = layout.labs / "assets"
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text(textwrap.dedent(code))


MAKES = """
for part in range(0, 101, 5):
    print(f"[{part:3}%] training: step {part} of 100", flush=True)
print("Made in 9 s: /somewhere")
"""


def test_progress_is_told_in_some_plain_lines_and_kept_in_the_log(
    layout: Layout, said: Said
) -> None:
    plant(layout, MAKES)
    assets.make(layout, said)
    begin, *progress, end = said.text.splitlines()
    assert begin == "Making the model and the data of the labs, about a minute:"
    assert progress == [f"  {part} %: training: step {part} of 100" for part in (25, 50, 75, 100)]
    assert end[2:].startswith("Model and data: made in 9 s: /somewhere")
    log = layout.log("assets").read_text()
    assert log.count("training: step") == 21
    assert "-m labs.assets" in log


def test_on_a_terminal_there_is_one_line_that_changes(layout: Layout) -> None:
    plant(layout, MAKES)
    console = Console(force_terminal=True, width=100, color_system=None, record=True)
    with console.capture() as shown:
        assets.make(layout, Steps(console))
    assert "Making the model" not in shown.get()
    assert "Model and data: made in 9 s: /somewhere" in shown.get().splitlines()[-1]


def test_what_is_there_already_is_one_line(layout: Layout, said: Said) -> None:
    plant(layout, 'print("There already: /somewhere")')
    assets.make(layout, said)
    assert said.text[2:] == "Model and data: there already: /somewhere\n"


def test_the_project_that_is_brought_up_is_the_one_that_makes_them(
    layout: Layout, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(layout, "import os; print('Made by', __file__, os.environ.get('PYTHONPATH'))")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    assets.make(layout, said)
    assert f"made by {layout.labs}/assets/__main__.py None" in said.text.replace("\n", "")


def test_its_own_words_on_what_stopped_it_are_passed_on(layout: Layout, said: Said) -> None:
    plant(
        layout,
        """
        import errno, sys
        from rich.console import Console
        from verify.lab import problems

        def full():
            print("[ 50%] training", flush=True)
            raise OSError(errno.ENOSPC, "", "/somewhere")

        sys.exit(problems.attempt(full, Console(stderr=True)))
        """,
    )
    with pytest.raises(Problem) as caught:
        assets.make(layout, said)
    assert caught.value.happened == "/somewhere could not be written: no space left."
    assert caught.value.cause == "the disk or your quota on it is full"
    assert caught.value.type_this.startswith("df -h")


@pytest.mark.parametrize(
    ("code", "happened", "cause"),
    [
        ("raise ImportError('no torch')", "made: ImportError: no torch.", "the lines above it in "),
        ("import os; os.kill(os.getpid(), 9)", "made: ended by signal 9.", "too little memory"),
        ("raise SystemExit(1)", "made: no output.", "the lines above it in "),
    ],
)
def test_whatever_else_stops_it_is_a_problem_and_no_traceback(
    layout: Layout, said: Said, code: str, happened: str, cause: str
) -> None:
    plant(layout, code)
    with pytest.raises(Problem) as caught:
        assets.make(layout, said)
    assert caught.value.happened.endswith(happened)
    assert caught.value.cause.startswith(cause)
    assert caught.value.type_this.startswith("invoke lab.up")


def test_ctrl_c_ends_the_making_too(layout: Layout, tmp_path: Path) -> None:
    plant(
        layout,
        f"""
        import os, pathlib, time
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
        time.sleep(60)
        """,
    )
    code = f"""
from pathlib import Path
import sys
from rich.console import Console
from verify.lab import assets, problems
from verify.lab.layout import Layout
from verify.lab.steps import Steps
Layout.python = Path(sys.executable)
made = Layout(Path({str(layout.root)!r}))
sys.exit(problems.attempt(lambda: assets.make(made, Steps()), Console(stderr=True)))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)

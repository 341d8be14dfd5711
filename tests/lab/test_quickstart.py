"""The host's half of the quickstart: where it runs, what it is told, how it is stopped."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labs.quickstart import options
from tests.conftest import PROJECT
from tests.lab.conftest import Said
from tests.lab.test_tasks import invoke
from verify.lab import assets, containers, environment, local, programs, quickstart
from verify.lab.layout import InImage, Layout
from verify.lab.problems import Misuse, Problem

# Tells its arguments, or, asked to wait, that it was interrupted: how often.
_PYTHON = """\
#!{python} -I
import signal, sys, time
sys.stdout.write(" ".join(sys.argv[1:]) + "\\n")
sys.stdout.flush()
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
if "--fresh" in sys.argv:
    open({ready!r}, "w").close()
    while not heard:
        time.sleep(0.01)
    time.sleep(0.3)
    print("interrupted", len(heard), "times")
    sys.exit(130)
sys.exit(4)
"""
# Runs what is to be run in a container here: all after its name.
_DOCKER = """\
#!/bin/sh
echo "docker $*" >>{log}
while [ "$1" != the-container ]; do shift; done
shift
exec "$@"
"""


def script(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def python(file: Path, ready: Path) -> Path:
    return script(file, _PYTHON.format(python=sys.executable, ready=str(ready)))


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "of", lambda _: {})
    monkeypatch.delenv("LAB_ASSETS", raising=False)
    for name in programs.HANDED_ON:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def made(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A project whose environment is there, with a Python that tells what it is asked."""
    python(layout.python, tmp_path / "ready")
    layout.assets.mkdir()
    monkeypatch.setattr(environment, "is_ready", lambda *_, **__: True)
    return layout


@pytest.fixture
def container(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A lab that is up in containers, by a docker that runs all of it here."""
    there = SimpleNamespace(name="the-container", status="running")
    monkeypatch.setattr(containers, "of", lambda _: {"jupyter": there})
    bin_ = tmp_path / "bin"
    script(bin_ / "docker", _DOCKER.format(log=tmp_path / "docker.log"))
    python(bin_ / "python", tmp_path / "ready")
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    return there


# ----------------------------------------------------------------------------------- as a process
def test_without_containers_it_runs_in_the_local_environment(
    made: Layout, said: Said, capfd: pytest.CaptureFixture[str]
) -> None:
    code = quickstart.run(made, said, {"steps": "3", "learning-rate": "1e-3"}, ["--no-color"])
    assert code == 4
    told = "-I -m labs.quickstart --steps=3 --learning-rate=1e-3 --no-color"
    assert capfd.readouterr().out.strip() == told
    assert said.text == ""


def test_an_engine_that_gives_no_answer_means_no_container(
    made: Layout, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: Path) -> dict[str, Any]:
        raise Problem("no engine")

    monkeypatch.setattr(containers, "of", nobody)
    assert quickstart.run(made, said, {}) == 4


@pytest.mark.parametrize("status", ["exited", "created"])
def test_a_container_that_does_not_run_is_none(
    made: Layout, said: Said, container: Any, status: str
) -> None:
    container.status = status
    assert quickstart.run(made, said, {}) == 4
    assert "container" not in said.text


def test_the_environment_and_the_bundled_model_are_made_where_they_are_missing(
    layout: Layout, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def environment_made(where: Layout, _: Said) -> None:
        python(where.python, tmp_path / "ready")
        done.append("environment")

    monkeypatch.setattr(environment, "is_ready", lambda *_: "environment" in done)
    monkeypatch.setattr(local, "make_environment", environment_made)
    monkeypatch.setattr(assets, "make", lambda *_: done.append("assets"))
    assert quickstart.run(layout, said, {"model": "m", "data": "d"}) == 4
    assert done == ["environment"]  # the bundled model is not asked for
    for given in ({}, {"model": "m"}, {"data": "d"}):
        assert quickstart.run(layout, said, given) == 4
    assert done == ["environment"] + 3 * ["assets"]
    layout.assets.mkdir()
    assert quickstart.run(layout, said, {}) == 4
    assert len(done) == 4


def test_inside_an_image_it_runs_on_the_images_own_python(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(containers, "of", lambda _: pytest.fail("there is no engine in there"))
    monkeypatch.setattr(InImage, "venv", property(lambda _: tmp_path / "venv"))
    python(tmp_path / "venv" / "bin" / "python", tmp_path / "ready")
    assert quickstart.run(InImage(tmp_path), said, {"model": "mine"}) == 4
    assert capfd.readouterr().out.strip() == "-I -m labs.quickstart --model=mine"


_RUN = """\
import sys, types
from pathlib import Path
from rich.console import Console
from verify.lab import containers, environment, quickstart
from verify.lab.layout import Layout
from verify.lab.problems import attempt
from verify.lab.steps import Steps
there = {there!r} and types.SimpleNamespace(name="the-container", status="running")
containers.of = lambda _: {{"jupyter": there}} if there else {{}}
environment.is_ready = lambda *_: True
layout = Layout(Path({root!r}))
action = lambda: quickstart.run(layout, Steps(), {{}}, ["--fresh"])
sys.exit(attempt(action, Console(stderr=True)))
"""


@pytest.mark.parametrize("there", [False, True], ids=["process", "container"])
def test_ctrl_c_reaches_the_program_once_and_its_end_is_awaited(
    made: Layout, container: Any, tmp_path: Path, there: bool
) -> None:
    """A terminal sends Ctrl-C to the whole group of processes: so does this test."""
    program = _RUN.format(there=there, root=str(made.root))
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=PROJECT, process_group=0,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)

        subprocess.run(["kill", "-INT", "--", f"-{process.pid}"], check=True)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert said.splitlines()[-1] == "interrupted 1 times", said
    assert process.returncode == 130
    assert "Traceback" not in said


def test_a_run_that_the_system_killed_is_told(made: Layout, said: Said) -> None:
    script(made.python, "#!/bin/sh\nkill -KILL $$\n")
    with pytest.raises(Problem, match="The run was killed") as told:
        quickstart.run(made, said, {})
    assert told.value.code == 3
    assert "memory ran out" in told.value.cause
    script(made.python, "#!/bin/sh\nkill -TERM $$\n")
    assert quickstart.run(made, said, {}) == 128 + signal.SIGTERM


# ---------------------------------------------------------------------------------- in a container
def test_in_a_container_paths_are_those_it_sees(
    layout: Layout, said: Said, container: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (layout.workspace / "data").mkdir()
    monkeypatch.chdir(layout.workspace)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    flags = {"model": "Qwen/Qwen3-8B", "data": "data", "output": str(layout.workspace / "new")}
    assert quickstart.run(layout, said, flags | {"rank": "8"}) == 4
    told = "-I -m labs.quickstart --model=Qwen/Qwen3-8B --data=/workspace/data"
    assert capfd.readouterr().out.strip() == f"{told} --output=/workspace/new --rank=8"
    command = (tmp_path / "docker.log").read_text()
    assert command.startswith("docker exec --env HF_HUB_OFFLINE the-container ")
    assert "In the lab's container the-container:" in said.text


@pytest.mark.parametrize("name", ["model", "data", "output"])
def test_a_path_that_the_container_does_not_see_is_refused(
    layout: Layout, said: Said, container: Any, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (layout.workspace / "link").symlink_to(outside)
    for place in (outside, layout.workspace / "link", layout.workspace / ".." / "labs"):
        with pytest.raises(Misuse) as told:
            quickstart.run(layout, said, {name: str(place)})
        assert f"it sees {layout.workspace} alone" in told.value.happened
        assert f"invoke quickstart --{name} {layout.workspace}" in told.value.type_this
    assert not (tmp_path / "docker.log").exists()


def test_a_model_folder_is_no_name_of_the_hub(
    layout: Layout, said: Said, container: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misuse, match="does not see"):
        quickstart.run(layout, said, {"model": "my/model"})


def test_without_dockers_command_line_it_says_where_else(
    layout: Layout, said: Said, container: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match="docker command is not installed"):
        quickstart.run(layout, said, {})


# ---------------------------------------------------------------------------------------- the menu
def test_every_flag_of_the_menu_is_one_of_the_programs() -> None:
    by_invoke = set(
        re.findall(r"^  --(?:\[no-\])?([\w-]+)", invoke("--help", "quickstart").stdout, re.M)
    )
    by_itself = {word[2:] for it in options.parser()._actions for word in it.option_strings}
    assert by_invoke - {"color"} == by_itself - {"h", "help", "no-color"} - {""}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], {}),
        (["--steps", "9", "--learning-rate", "0.1"], {"steps": "9", "learning-rate": "0.1"}),
        (["--model", "m", "--data", "d", "--method", "lora", "--batch", "1", "--accumulate", "2",
          "--length", "3", "--rank", "4", "--checkpointing", "on", "--seed", "5", "--output", "o"],
         {"model": "m", "data": "d", "method": "lora", "batch": "1", "accumulate": "2",
          "length": "3", "rank": "4", "checkpointing": "on", "seed": "5", "output": "o"}),
    ],
)  # fmt: skip
def test_the_menu_hands_every_flag_on(
    flags: list[str], told: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    shutil.copy(PROJECT / "tasks.py", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "verify", tmp_path / "verify", ignore=ignored)
    stub = "def run(layout, steps, flags, switches):\n    print(flags, switches)\n    return 3\n"
    (tmp_path / "verify" / "lab" / "quickstart.py").write_text(stub)
    ended = invoke("quickstart", *flags, "--fresh", "--no-color", folder=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.strip() == f"{told} ['--fresh', '--no-color']"
    assert invoke("quickstart", folder=tmp_path).stdout.strip() == "{} []"

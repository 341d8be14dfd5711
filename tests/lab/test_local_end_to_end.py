"""The local lab as a learner meets it: real JupyterLab, real runner, `invoke` in a project's copy.

The copy shares the environment of this project (`invoke test` has made it) and nothing else: it
has its own workspace, run folder and port, and never touches a lab that a learner has running.
The tests run in the order they are written in, on one lab.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.test_jupyter import free_port
from verify.lab import environment, processes
from verify.lab.layout import Layout
from verify.labs import Lab, find_labs

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not environment.is_ready(Layout(PROJECT)), reason="`invoke test` makes the lab's environment"
)


@dataclasses.dataclass(frozen=True)
class Copy:
    """A copy of the project, and the port its JupyterLab is asked to take."""

    layout: Layout
    port: int

    @property
    def skill(self) -> Lab:
        """The first lab with an exercise."""
        return next(lab for lab in find_labs(self.layout.labs) if lab.exercise)

    def command(self, *words: str) -> dict[str, Any]:
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        env = {name: os.environ[name] for name in kept if name in os.environ}
        command = [str(self.layout.python), "-m", "invoke", *words]
        return {"args": command, "env": env | {"NO_COLOR": "1"}, "cwd": self.layout.workspace}

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `invoke` as typed in a folder below the project."""
        return subprocess.run(
            **self.command(*words), capture_output=True, text=True, timeout=300, check=False
        )

    def up(self) -> str:
        """Bring the lab up and return the URL it ends with."""
        ended = self.invoke("lab.up", "--runtime", "local", "--port", str(self.port))
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout.splitlines()[-1]

    def pid(self, service: str) -> int:
        return int(json.loads(self.layout.record(service).read_text())["pid"])

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Return the status and body of a request to JupyterLab."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"token {token}"} if token else {}
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    @property
    def token(self) -> str:
        return self.layout.token.read_text()

    def processes(self) -> dict[int, str]:
        """Return every process that has to do with this copy, by what it was started as."""
        found = {}
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and processes.identify(int(process.name)):
                with contextlib.suppress(OSError):
                    told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                    if os.fsencode(self.layout.root) in told:
                        found[int(process.name)] = told.decode(errors="replace")[:200]
        return found


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    # Not below pytest's folders: those are closed to the user that learner code runs as.
    root = Path(tempfile.mkdtemp(prefix="lab-")).resolve()
    root.chmod(0o755)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("verify", "labs", "images"):
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    shutil.copy(PROJECT / "tasks.py", root)
    layout = Layout(root)
    layout.prepare()
    layout.venv.symlink_to(Layout(PROJECT).venv.resolve())
    layout.assets.symlink_to(Layout(PROJECT).assets.resolve())
    made = Copy(layout, free_port())
    yield made
    made.invoke("lab.down")
    left = made.processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(root)
    assert not left


def test_up_makes_everything_and_ends_with_one_url(copy: Copy) -> None:
    ended = copy.invoke("lab.up", "--runtime", "local", "--port", str(copy.port))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("Runtime: local")
    ticked = [line.split(":")[0] for line in lines if line[0] in "+\N{CHECK MARK}"]
    made = ["Environment", "Model and data", "Workspace"]
    running = ["Runner", "JupyterLab", "Verification round trip"]
    assert [line[2:] for line in ticked] == made + running
    assert lines[-1] == (f"http://127.0.0.1:{copy.port}/lab/tree/README.md?token={copy.token}")
    assert ended.stderr == ""


@pytest.mark.parametrize("path", ["/api/status", "/api/contents", "/api/kernels", "/api/me"])
def test_jupyterlab_answers_with_the_token_and_refuses_without(copy: Copy, path: str) -> None:
    assert copy.get(path, copy.token)[0] == 200
    assert copy.get(path)[0] == 403
    assert copy.get(path, "x" * len(copy.token))[0] == 403


def test_a_page_without_the_token_is_only_the_login(copy: Copy) -> None:
    assert copy.get("/lab")[0] == 302
    assert copy.get(f"/lab/tree/README.md?token={copy.token}")[0] == 200


def test_it_listens_on_the_loopback_address_alone(copy: Copy) -> None:
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{copy.port:04X}")
    ]
    assert listening == [f"0100007F:{copy.port:04X}"]


def test_the_token_is_in_no_log_and_on_no_command_line(copy: Copy) -> None:
    logs = "".join(file.read_text() for file in copy.layout.logs.iterdir())
    assert "GET" in logs or "Jupyter Server" in logs
    assert copy.token not in logs
    for pid in copy.processes():
        assert copy.token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert copy.layout.token.stat().st_mode & 0o777 == 0o600


def test_lessons_open_as_pages_exercises_as_notebooks_and_no_news_is_fetched(copy: Copy) -> None:
    settings = "/lab/api/settings/@jupyterlab"
    _, viewers = copy.get(f"{settings}/docmanager-extension:plugin", copy.token)
    assert '"markdown": "Markdown Preview"' in viewers
    assert '"python": "Jupytext Notebook"' in viewers
    _, notification = copy.get(f"{settings}/apputils-extension:notification", copy.token)
    schema = json.loads(notification)["schema"]["properties"]
    assert schema["fetchNews"]["default"] == "false"
    assert schema["checkForUpdates"]["default"] is False
    assert '"news": {"disabled": true}' in copy.get("/lab", copy.token)[1]


def test_the_starter_is_a_notebook_to_jupyter(copy: Copy) -> None:
    path = f"/api/contents/{copy.skill.skill}/exercise.py?type=notebook"
    status, body = copy.get(path, copy.token)
    assert status == 200
    kinds = {cell["cell_type"] for cell in json.loads(body)["content"]["cells"]}
    assert kinds == {"markdown", "code"}


def in_a_terminal(copy: Copy, folder: str, line: str, awaited: str) -> str:
    """Type ``line`` in a terminal of JupyterLab and return what it printed."""
    import websocket  # comes with JupyterLab

    connection = http.client.HTTPConnection("127.0.0.1", copy.port, timeout=30)
    headers = {"Authorization": f"token {copy.token}"}
    with contextlib.closing(connection):
        connection.request("POST", "/api/terminals", headers=headers)
        name = json.loads(connection.getresponse().read())["name"]
    terminal = websocket.create_connection(
        f"ws://127.0.0.1:{copy.port}/terminals/websocket/{name}", header=headers, timeout=60
    )
    shown = ""
    with contextlib.closing(terminal):
        terminal.send(json.dumps(["stdin", f"cd {folder}; {line}\r"]))
        while awaited not in shown:
            kind, *rest = json.loads(terminal.recv())
            shown += rest[0] if kind == "stdout" else ""
    return shown


def test_a_terminal_of_jupyterlab_can_verify_in_any_folder(copy: Copy) -> None:
    line = f"invoke verify --skill {copy.skill.skill} --no-color; echo code=$?.; which invoke"
    shown = in_a_terminal(copy, copy.skill.skill, line, "bin/invoke")
    assert re.search(r"code=1\.", shown)
    assert "local runner" in shown
    assert str(copy.layout.venv / "bin" / "invoke") in shown


def test_the_starter_is_not_ready_and_the_solution_is(copy: Copy, tmp_path: Path) -> None:
    skill = copy.skill
    starter = copy.invoke("verify", "--skill", skill.skill)
    assert starter.returncode == 1, starter.stdout + starter.stderr
    assert "Hint:" in starter.stdout
    (tmp_path / skill.skill).mkdir()
    shutil.copy(skill.folder / "solution.py", tmp_path / skill.skill / "exercise.py")
    words = ["--skill", skill.skill, "--workspace", str(tmp_path), "--json", f"{tmp_path}/r.json"]
    solution = copy.invoke("verify", *words)
    assert solution.returncode == 0, solution.stdout + solution.stderr
    assert json.loads((tmp_path / "r.json").read_text())["environment"]["runtime"] == "local"


def test_up_again_is_harmless_quick_and_ends_with_the_same_url(copy: Copy) -> None:
    before = {name: copy.pid(name) for name in ("jupyter", "runner")}
    exercise = copy.layout.workspace / copy.skill.skill / "exercise.py"
    exercise.write_text(exercise.read_text() + "# mine\n")
    began = time.monotonic()
    url = copy.up()
    assert time.monotonic() - began < 5
    assert url.endswith(f"?token={copy.token}")
    assert {name: copy.pid(name) for name in ("jupyter", "runner")} == before
    assert exercise.read_text().endswith("# mine\n")


def test_another_port_while_it_runs_changes_nothing(copy: Copy) -> None:
    ended = copy.invoke("lab.up", "--runtime", "local", "--port", str(free_port()))
    assert ended.returncode == 0
    assert f"runs on port {copy.port} already" in ended.stdout
    assert f":{copy.port}/" in ended.stdout.splitlines()[-1]


def test_status_shows_what_runs_and_hides_the_token(copy: Copy) -> None:
    shown = copy.invoke("lab.status")
    assert shown.returncode == 0
    assert copy.token not in shown.stdout
    for text in (str(copy.pid("jupyter")), str(copy.pid("runner")), "Learner code: sealing"):
        assert text in shown.stdout
    assert copy.token in copy.invoke("lab.status", "--url").stdout.splitlines()[-1]


def test_logs_are_shown(copy: Copy) -> None:
    shown = copy.invoke("lab.logs", "--lines", "200").stdout
    assert "jupyter | " in shown
    assert "listening on" in shown


def test_up_replaces_a_runner_of_older_code(copy: Copy) -> None:
    before = {name: copy.pid(name) for name in ("jupyter", "runner")}
    changed = copy.layout.root / "verify" / "text.py"
    text = changed.read_text()
    changed.write_text(text + "# changed by an update\n")
    try:
        assert "older code" in copy.invoke("lab.status").stdout
        copy.up()
    finally:
        changed.write_text(text)
    assert copy.pid("runner") != before["runner"]
    assert copy.pid("jupyter") == before["jupyter"]
    assert processes.identify(before["runner"]) is None


def judging(copy: Copy) -> bool:
    """Return whether the runner has a job in hand."""
    with contextlib.closing(sqlite3.connect(f"file:{copy.layout.results}?mode=ro", uri=True)) as db:
        return bool(db.execute("SELECT 1 FROM job WHERE state = 'running'").fetchall())


def test_up_recovers_from_a_runner_killed_in_the_middle(copy: Copy, tmp_path: Path) -> None:
    jupyter = copy.pid("jupyter")
    (tmp_path / copy.skill.skill).mkdir()
    (tmp_path / copy.skill.skill / "exercise.py").write_text(
        "".join(f"def {f}(*_, **__):\n    while True: pass\n" for f in copy.skill.functions)
    )
    words = ["verify", "--skill", copy.skill.skill, "--workspace", str(tmp_path)]
    verifying = subprocess.Popen(
        **copy.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 30
    while not judging(copy):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)  # well into the learner's endless loop
    os.kill(copy.pid("runner"), signal.SIGKILL)
    shown = verifying.communicate(timeout=60)[0]
    assert verifying.returncode == 3, shown
    assert "invoke lab.up" in shown
    status = copy.invoke("lab.status")
    assert status.returncode == 3
    assert status.stdout.splitlines()[-1] == "Type: invoke lab.up"
    ended = copy.invoke("lab.up", "--runtime", "local", "--port", str(copy.port))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert copy.pid("jupyter") == jupyter
    assert "verify these again" in ended.stdout
    assert copy.skill.skill in ended.stdout.partition("verify these again")[2].splitlines()[1]


def test_up_restarts_jupyterlab_alone(copy: Copy) -> None:
    runner = copy.pid("runner")
    os.kill(copy.pid("jupyter"), signal.SIGKILL)
    assert copy.up().endswith(copy.token)
    assert copy.pid("runner") == runner
    assert copy.get("/api/status", copy.token)[0] == 200


def test_up_finds_what_runs_when_its_records_are_lost(copy: Copy) -> None:
    before = {name: copy.pid(name) for name in ("jupyter", "runner")}
    for name in before:
        copy.layout.record(name).unlink()
    copy.up()
    assert {name: copy.pid(name) for name in ("jupyter", "runner")} == before


def test_down_leaves_the_files_and_nothing_running(copy: Copy) -> None:
    ended = copy.invoke("lab.down")
    assert ended.returncode == 0
    assert "Your files and results are kept." in ended.stdout
    assert copy.processes() == {}
    assert copy.layout.results.exists()
    assert not copy.layout.socket.exists()
    assert copy.invoke("lab.down").stdout == "Nothing of the lab runs.\n"
    assert copy.invoke("lab.status").returncode == 3


def test_a_port_in_use_stops_what_this_run_started(copy: Copy) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", copy.port))
        taken.listen()
        ended = copy.invoke("lab.up", "--runtime", "local", "--port", str(copy.port))
    assert ended.returncode == 3
    first, cause, command = ended.stderr.splitlines()
    assert first == f"Port {copy.port} of 127.0.0.1 is in use."
    assert f"process {os.getpid()}" in cause
    assert command.startswith("Type: invoke lab.up --port ")
    assert copy.processes() == {}


@pytest.mark.parametrize("after", ["Workspace", "Runner"])
def test_ctrl_c_stops_what_this_run_started(copy: Copy, after: str) -> None:
    command = copy.command("lab.up", "--runtime", "local", "--port", str(copy.port))
    process = subprocess.Popen(
        **command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    while after not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert copy.processes() == {}


def test_and_it_comes_up_again(copy: Copy) -> None:
    assert copy.up().endswith(copy.token)

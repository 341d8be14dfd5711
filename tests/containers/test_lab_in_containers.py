"""The lab in its two containers, as a learner meets it: up, verdicts from everywhere, down."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import as_root
from tests.containers.conftest import Lab, lab_of
from tests.lab.conftest import Said
from verify.lab import compose, engine
from verify.lab.problems import Problem

SKILL = "memory"
COUNT = (
    "import sqlite3; d = sqlite3.connect('/var/lib/lab/results.sqlite'); "
    "print(d.execute('select count(*) from job').fetchone()[0])"
)


def token(lab: Lab) -> str:
    shown = lab.invoke("lab.status", "--url").stdout
    found = re.search(r"token=(\S+)", shown)
    assert found, shown
    return found[1]


def test_up_ends_with_both_services_healthy_and_one_url(lab: Lab) -> None:
    again = lab.up()
    lines = again.stdout.splitlines()
    assert lines[0].startswith("Runtime: compose")
    assert lines[1].startswith("Variant: cpu")
    assert "Verification round trip: the solution of" in again.stdout
    assert lines[-1].startswith(f"http://127.0.0.1:{lab.port}/lab/tree/README.md?token=")
    shown = lab.invoke("lab.status")
    assert shown.returncode == 0
    assert shown.stdout.count("running, healthy") == 2


def test_jupyterlab_answers_with_its_token_and_refuses_without(lab: Lab) -> None:
    for path in ("/api/status", "/api/contents", "/api/kernels"):
        assert lab.get(path, token(lab)) == 200
        assert lab.get(path) == 403
        assert lab.get(path, "wrong") == 403


def test_the_token_is_in_no_log_and_no_inspection(lab: Lab) -> None:
    key = token(lab)
    assert key not in lab.compose("logs").stdout
    for service in ("jupyter", "verifier"):
        assert key not in json.dumps(lab.inspect(service))


def test_the_starter_is_not_ready_and_the_solution_is_from_the_host(
    lab: Lab, solve: Callable[[str], None], tmp_path: Path
) -> None:
    assert lab.invoke("verify", "--skill", SKILL).returncode == 1
    solve(SKILL)
    record = tmp_path / "run.json"
    ended = lab.invoke("verify", "--skill", SKILL, "--json", str(record))
    assert ended.returncode == 0, ended.stdout
    assert json.loads(record.read_text())["environment"]["runtime"] == "compose"


@pytest.mark.parametrize("folder", ["/workspace", "/workspace/memory", "/tmp", "/"])
def test_the_same_from_jupyters_terminal_in_any_folder(
    lab: Lab, solve: Callable[[str], None], folder: str
) -> None:
    words = ("invoke", "verify", "--skill", SKILL)
    assert lab.inside("jupyter", *words, folder=folder).returncode == 1
    solve(SKILL)
    ended = lab.inside("jupyter", *words, folder=folder)
    assert ended.returncode == 0, ended.stdout
    assert "compose runner" in ended.stdout


def test_the_same_in_the_one_shot_form(lab: Lab, solve: Callable[[str], None]) -> None:
    words = ("run", "--rm", "-T", "verifier", "invoke", "verify", "--skill", SKILL)
    assert lab.compose(*words, check=False).returncode == 1
    solve(SKILL)
    ended = lab.compose(*words, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_link_to_the_solution_is_no_solution_in_the_one_shot_form(
    lab: Lab, solve: Callable[[str], None]
) -> None:
    """The keys are in that container: its root must not read them for a learner."""
    solve(SKILL)  # puts the starter back afterwards
    exercise = lab.layout.workspace / SKILL / "exercise.py"
    exercise.unlink()
    exercise.symlink_to(f"/opt/lab/labs/{SKILL}/solution.py")
    try:
        words = ("run", "--rm", "-T", "verifier", "invoke", "verify", "--skill", SKILL)
        ended = lab.compose(*words, check=False)
    finally:
        exercise.unlink()
    assert ended.returncode == 1, ended.stdout
    assert "is a link; the file itself is needed" in " ".join(ended.stdout.split())


def test_without_a_runner_the_one_shot_form_judges_and_jupyter_says_what_to_do(
    lab: Lab, solve: Callable[[str], None]
) -> None:
    solve(SKILL)
    lab.compose("stop", "verifier")
    try:
        refused = lab.inside("jupyter", "invoke", "verify", "--skill", SKILL)
        assert refused.returncode == 3
        assert "The runner does not answer" in refused.stderr
        assert "Type: invoke lab.up" in refused.stderr
        words = ("run", "--rm", "-T", "verifier", "invoke", "verify", "--skill", SKILL)
        alone = lab.compose(*words, check=False)
        assert alone.returncode == 0, alone.stdout + alone.stderr
        assert "standalone runner" in alone.stdout
        assert lab.invoke("lab.status").returncode == 3
    finally:
        lab.up()


def test_where_the_socket_does_not_cross_the_runner_is_reached_in_its_container(
    lab: Lab, solve: Callable[[str], None]
) -> None:
    """As with an engine in a virtual machine: the folder is there, its socket is not."""
    away = lab.layout.compose_run.with_name("elsewhere")
    lab.layout.compose_run.rename(away)
    try:
        compose.find_runner(lab.layout)
        assert not isinstance(lab.layout.runners["compose"], Path)
        solve(SKILL)
        ended = lab.invoke("verify", "--skill", SKILL, "--runtime", "compose")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "compose runner" in ended.stdout
    finally:
        away.rename(lab.layout.compose_run)
    compose.find_runner(lab.layout)
    assert isinstance(lab.layout.runners["compose"], Path)


def test_a_runner_that_dies_is_started_again(lab: Lab) -> None:
    lab.compose("kill", "verifier")
    lab.up()
    assert lab.invoke("verify", "--skill", SKILL).returncode == 1


def test_jupyters_files_are_the_owners(lab: Lab) -> None:
    lab.inside("jupyter", "touch", "/workspace/made-inside")
    made = lab.layout.workspace / "made-inside"
    assert (made.stat().st_uid, made.stat().st_gid) == (1000, 1000)
    made.unlink()


@pytest.mark.skipif(not as_root(), reason="only root can give files to other users")
@pytest.mark.parametrize("owner", [1001, 0])
def test_whoever_owns_the_workspace_keeps_it_and_results_survive(
    images: dict[str, str], owner: int
) -> None:
    with lab_of(owner) as lab:
        lab.up()
        assert lab.invoke("verify", "--skill", SKILL).returncode == 1
        written = "open('/workspace/memory/exercise.py', 'a').write('# mine')"
        assert lab.inside("jupyter", "python", "-c", written).returncode == 0
        exercise = lab.layout.workspace / SKILL / "exercise.py"
        assert {file.stat().st_uid for file in lab.layout.workspace.rglob("*")} == {owner}
        before = int(lab.inside("verifier", "python", "-c", COUNT).stdout)
        assert lab.invoke("lab.down").returncode == 0
        assert lab.invoke("lab.status").returncode == 3
        lab.up()
        assert exercise.read_text().endswith("# mine")
        # The round trip of `lab.up` is a job too.
        assert int(lab.inside("verifier", "python", "-c", COUNT).stdout) == before + 1


@pytest.mark.skipif(not as_root(), reason="only root can give files to other users")
def test_compose_by_hand_works_and_tells_a_stranger_what_to_type(images: dict[str, str]) -> None:
    with lab_of(1000) as lab:
        (lab.layout.root / ".env").write_text(f"LAB_PORT={lab.port}\n")
        lab.compose("up", "--detach", "--wait")
        assert lab.invoke("verify", "--skill", SKILL).returncode == 1
        lab.compose("down")
    with lab_of(1001) as lab:
        (lab.layout.root / ".env").write_text(f"LAB_PORT={lab.port}\n")
        assert lab.compose("up", "--detach", "--wait", check=False).returncode != 0
        said = ""
        while "LAB_UID" not in said:
            said = lab.compose("logs", "jupyter").stdout
            time.sleep(0.2)
        assert "Type: LAB_UID=1001 LAB_GID=1001 docker compose up --wait" in said


def test_a_taken_port_starts_nothing(lab: Lab, images: dict[str, str]) -> None:
    with lab_of(1000) as other:
        ended = other.invoke("lab.up", "--runtime", "compose", "--port", str(lab.port))
        assert ended.returncode == 3
        assert f"Port {lab.port} of 127.0.0.1 is in use." in ended.stderr
        assert "Type: invoke lab.up --port" in ended.stderr
        assert other.compose("ps", "--all", "--quiet").stdout == ""


def test_another_copy_may_not_take_this_ones_names(lab: Lab, images: dict[str, str]) -> None:
    with lab_of(1000) as other:
        twin = type(other)(other.layout, other.port, lab.project)
        ended = twin.invoke("lab.up", "--runtime", "compose", "--port", str(twin.port))
        assert ended.returncode == 3
        assert f"The lab in {lab.layout.root} has the containers' names already." in ended.stderr
        assert lab.invoke("lab.status").returncode == 0


@pytest.mark.parametrize(
    ("wiring", "happened"),
    [("runtime", "nvidia"), ("cdi", "CDI")],
)
def test_a_gpu_that_the_engine_cannot_hand_over_is_told_with_what_to_type(
    images: dict[str, str], wiring: str, happened: str
) -> None:
    """Real refusals of a real engine: this test runs where there is no GPU."""
    if containers_know_a_gpu():
        pytest.skip("this engine can hand a GPU to a container; the GPU tests use it")
    with lab_of(1000) as lab:
        lab.layout.prepare()
        chosen = compose.settings(lab.layout, "cpu", wiring, lab.port)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("COMPOSE_PROJECT_NAME", lab.project)
            with pytest.raises(Problem) as told:
                compose.up(lab.layout, Said(), chosen)
    assert happened in told.value.happened + told.value.cause
    assert told.value.type_this


def containers_know_a_gpu() -> bool:
    found = engine.look()
    return isinstance(found, engine.Engine) and (
        "nvidia" in found.runtimes or bool(found.cdi_devices)
    )

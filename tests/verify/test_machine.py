"""Labs without an exercise: the machine is checked, and no learner's process is there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COURSES, Runner, descendants, running
from verify import client, sealing
from verify.judging import Bench, parts_of
from verify.labs import Lab, find_labs
from verify.machine import CACHES, Fault, advice, caches, nearest
from verify.manifest import SETTINGS
from verify.store import Store
from verify.submit import read_exercise

COURSE = COURSES / "machine"


def lab(skill: str) -> Lab:
    return next(lab for lab in find_labs(COURSE) if lab.skill == skill)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    environment = {**os.environ, "HF_HOME": "/some/cache"}
    with running(COURSE, tmp_path_factory.mktemp("machine"), env=environment) as runner:
        yield runner


def judged(check: str) -> Any:
    bench = Bench(lab("faulty"))
    found = next(it for it in bench.checks if it.name == check)
    return bench.judge(found, bench.rehearse(), seed=1)


def test_a_fault_is_the_machines_with_cause_and_command() -> None:
    came = judged("cold")
    assert (came.status, came.cause, came.misconception) == ("failed", "environment", None)
    assert came.message == "It is 3 degrees."
    assert advice(came.hint) == ("Somebody left a window open", "close --window | tee log")


def test_a_broken_check_is_our_error_also_when_it_would_pass_a_second_time() -> None:
    came = judged("broken")
    assert (came.status, came.cause) == ("error", None)
    assert "ZeroDivisionError" in came.message


@pytest.mark.parametrize("command", ["", "invoke lab.up", "a. Type: b"])
def test_a_hint_can_be_taken_apart(command: str) -> None:
    assert advice(Fault("x.", "the cause", command).hint) == ("The cause", command)


def test_modules_beside_come_before_the_checks() -> None:
    assert parts_of(lab("sound")) == ("beside", "checks")


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    told = read_exercise(lab("sound"), tmp_path / "nowhere")
    assert told == {"skill": "sound", "exercise": None, "trouble": None}


@pytest.mark.parametrize("sent", [None, b"import os; os.abort()"])
def test_its_checks_are_the_only_ones_and_no_file_is_kept(
    machine: Runner, sent: bytes | None
) -> None:
    told: list[dict[str, Any]] = []
    with client.connect(machine.socket) as channel:
        skill = {"skill": "sound", "exercise": sent, "trouble": None}
        client.verify(channel, [skill], 1, told.append)
    (whole,) = [event["skill"] for event in told if event["event"] == "skill"]
    assert whole["ready"]
    assert whole["exercise_sha256"] is None
    found = {check["name"]: check for check in whole["checks"]}
    assert [(it["status"], it["message"]) for it in list(found.values())[:2]] == [
        ("passed", "warm"),
        ("not_run", "not run: no such part"),
    ]
    store = Store(machine.results)
    assert [it.name for it in store.results(whole["job"])] == list(found)
    store.close()


def test_faults_do_not_keep_later_checks_from_running(machine: Runner) -> None:
    results = machine.verify("faulty", None)
    assert {name: (it.status, it.cause) for name, it in results.items()} == {
        "cold": ("failed", "environment"),
        "broken": ("error", None),
        "waits": ("not_run", "waits"),
    }


def test_no_learners_process_is_started(machine: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.process is not None
    before = set(descendants(machine.process.pid))
    seen: set[int] = set()

    def look(event: dict[str, Any]) -> None:
        assert machine.process is not None
        seen.update(set(descendants(machine.process.pid)) - before)

    with client.connect(machine.socket) as channel:
        skill = {"skill": "sound", "exercise": None, "trouble": None}
        client.verify(channel, [skill], 1, look)
    assert len(seen) <= 1, "the judge alone"


def test_the_judge_is_told_where_the_runners_caches_are(machine: Runner) -> None:
    came = machine.verify("sound", None)["caches"]
    assert came.message == f"/some/cache {tempfile.gettempdir()}"


def test_a_course_without_an_exercise_has_no_self_test(machine: Runner) -> None:
    with pytest.raises(client.Refused, match="no exercise"):
        client.selftest(machine.socket)


def test_caches_are_told_where_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    monkeypatch.setenv("HF_HOME", "/some/cache")
    assert caches()["HF_HOME"] == "/some/cache"
    assert "TRITON_CACHE_DIR" not in caches()


def test_a_job_sees_every_setting_that_a_manifest_keeps_and_no_cache_of_the_runner() -> None:
    assert set(SETTINGS) <= set(sealing.PASSED_ON)
    assert not set(CACHES) & set(sealing.PASSED_ON)


def test_of_a_folder_that_is_not_there_the_nearest_counts(tmp_path: Path) -> None:
    assert nearest(tmp_path) == tmp_path
    assert nearest(tmp_path / "a" / "b") == tmp_path


def test_a_link_to_nothing_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "hf").symlink_to(tmp_path / "gone")
    with pytest.raises(Fault, match="hf is a link to nothing"):
        nearest(tmp_path / "hf" / "hub")


def test_a_folder_that_may_not_be_entered_is_a_fault_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "exists", closed)
    with pytest.raises(Fault, match="may not enter") as fault:
        nearest(tmp_path)
    assert fault.value.type_this == f"namei -l {tmp_path}"

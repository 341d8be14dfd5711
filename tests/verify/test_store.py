"""Results are on disk before anyone sees them, and what was not finished is named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from verify.results import CheckResult
from verify.store import Store


def result(name: str) -> CheckResult:
    return CheckResult(
        name=name, title="It holds.", level="check", evidence="value", status="passed"
    )


def test_what_is_added_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "results.sqlite")
    job = store.start("memory", 2**62, False, "abc")
    store.add(job, 0, result("a"))
    store.add(job, 1, result("b"))
    assert store.state(job) == "running"
    store.finish(job)
    assert store.state(job) == "finished"
    assert store.results(job) == [result("a"), result("b")]


def test_another_process_sees_a_result_at_once(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    store = Store(file)
    store.add(store.start("memory", 1, False, None), 0, result("a"))
    with sqlite3.connect(file) as other:
        assert other.execute("SELECT count(*) FROM result").fetchone() == (1,)


def test_every_commit_is_flushed_to_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.sqlite")
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_jobs_of_a_killed_runner_are_named_once_and_keep_their_results(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    first = Store(file)
    done, left = first.start("memory", 1, False, None), first.start("training", 1, False, None)
    first.finish(done)
    first.add(left, 0, result("a"))
    second = Store(file)
    (told,) = second.interrupt_running()
    assert "training" in told
    assert "1 results kept" in told
    assert second.state(left) == "interrupted"
    assert second.results(left) == [result("a")]
    assert second.interrupt_running() == []


def test_an_unknown_job_has_no_state(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.sqlite")
    assert store.state("nothing") is None
    assert store.results("nothing") == []


def judged(store: Store, key: str | None, practice: bool = False, sha256: str | None = "f") -> str:
    job = store.start("memory", 1, practice, sha256, key)
    store.add(job, 0, result("a"))
    store.finish(job, "printed")
    return job


def test_what_was_finished_under_a_key_is_found_again_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    first = Store(file)
    job = judged(first, "mine")
    judged(first, "another")
    judged(first, None)
    first.close()
    second = Store(file)
    assert second.finished("mine", "memory", "f") == (job, "printed")
    assert second.results(job) == [result("a")]
    assert second.finished("nobody's", "memory", "f") is None


def test_what_is_running_or_was_interrupted_is_not_finished(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    store = Store(file)
    left = store.start("memory", 1, False, "f", "mine")
    assert store.finished("mine", "memory", "f") is None
    store.interrupt(left)
    assert store.finished("mine", "memory", "f") is None
    store.start("memory", 1, False, "f", "killed")
    Store(file).interrupt_running()
    assert store.finished("killed", "memory", "f") is None
    assert store.finished("mine", "memory", "f") is None
    again = judged(store, "mine")
    assert store.finished("mine", "memory", "f") == (again, "printed")


def test_practice_another_file_and_another_skill_do_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.sqlite")
    judged(store, "practice", practice=True)
    assert store.finished("practice", "memory", "f") is None
    job = judged(store, "mine")
    judged(store, "mine", practice=True)
    assert store.finished("mine", "memory", "f") == (job, "printed")
    assert store.finished("mine", "memory", "g") is None
    assert store.finished("mine", "memory", None) is None
    assert store.finished("mine", "peft", "f") is None


def test_a_submission_without_a_file_has_a_key_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.sqlite")
    job = judged(store, "mine", sha256=None)
    assert store.finished("mine", "memory", None) == (job, "printed")
    assert store.finished("mine", "memory", "f") is None


def test_a_job_and_its_key_are_written_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results.sqlite")
    with pytest.raises(sqlite3.Error):
        store.start("memory", 1, False, "f", object())  # type: ignore[arg-type]
    assert store.jobs() == []
    assert judged(store, "mine") == store.jobs()[0], "and the file is not left locked"

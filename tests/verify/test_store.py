"""Results are on disk before anyone sees them, and what was not finished is named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

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

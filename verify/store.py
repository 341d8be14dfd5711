"""Results on disk, durable before anyone is shown them. Written by the runner alone."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from verify.results import CheckResult

_TABLES = """
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, skill TEXT NOT NULL, seed TEXT NOT NULL, practice INTEGER NOT NULL,
    exercise_sha256 TEXT, started TEXT NOT NULL, ended TEXT,
    state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'interrupted'))
);
CREATE TABLE IF NOT EXISTS claim (
    key TEXT PRIMARY KEY, job TEXT NOT NULL REFERENCES job(id), output TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS result (
    job TEXT NOT NULL REFERENCES job(id), place INTEGER NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (job, place)
);
"""


class Store:
    """The results file: SQLite in WAL mode, every commit on disk before it returns."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def start(
        self, skill: str, seed: int, practice: bool, sha256: str | None, key: str | None = None
    ) -> str:
        """Record that a job begins and return its id.

        Args:
            skill: The skill.
            seed: What its inputs are drawn from.
            practice: Whether the seed was asked for.
            sha256: The hash of the learner's file.
            key: The client's own name for the submission: see `finished`. Practice has none.
        """
        job = uuid.uuid4().hex
        with self._transaction():
            self._db.execute(
                "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, NULL, 'running')",
                (job, skill, str(seed), practice, sha256, _now()),
            )
            if key is not None and not practice:
                self._db.execute(
                    "INSERT OR REPLACE INTO claim (key, job) VALUES (?, ?)", (key, job)
                )
        return job

    def finished(self, key: str, skill: str, sha256: str | None) -> tuple[str, str] | None:
        """Return the job, and its output, in which the submission ``key`` was judged to the end.

        A client that lost its runner asks again with the same keys: what was finished is not
        judged twice, and what was not is. Practice does not count, nor another file's key.
        """
        with self._lock:
            row: tuple[str, str] | None = self._db.execute(
                "SELECT job, output FROM claim JOIN job ON job.id = claim.job WHERE key = ?"
                " AND state = 'finished' AND NOT practice AND skill = ? AND exercise_sha256 IS ?",
                (key, skill, sha256),
            ).fetchone()
        return row

    def add(self, job: str, place: int, result: CheckResult) -> None:
        """Keep one result; it is on disk when this returns."""
        record = msgspec.json.encode(result).decode()
        self._write("INSERT INTO result VALUES (?, ?, ?)", (job, place, record))

    def finish(self, job: str, output: str = "") -> None:
        """Record that every result of a job is kept, and what its exercise printed."""
        with self._transaction():
            self._db.execute("UPDATE claim SET output = ? WHERE job = ?", (output, job))
            self._db.execute(
                "UPDATE job SET state = 'finished', ended = ? WHERE id = ?", (_now(), job)
            )

    def interrupt(self, job: str) -> None:
        """Record that a job was given up; its results so far are kept."""
        self._write("UPDATE job SET state = 'interrupted', ended = ? WHERE id = ?", (_now(), job))

    def interrupt_running(self) -> list[str]:
        """Mark the jobs that a killed runner left and return them, each in a few words."""
        with self._lock:
            left = self._db.execute(
                "SELECT id, skill, started, (SELECT count(*) FROM result WHERE job = id)"
                " FROM job WHERE state = 'running' ORDER BY started"
            ).fetchall()
            self._db.execute(
                "UPDATE job SET state = 'interrupted', ended = ? WHERE state = 'running'", (_now(),)
            )
        return [
            f"{skill}, started {started}: {kept} results kept (job {job[:8]})"
            for job, skill, started, kept in left
        ]

    def results(self, job: str) -> list[CheckResult]:
        """Return what is kept of a job, in the order it was decided."""
        with self._lock:
            rows = self._db.execute(
                "SELECT record FROM result WHERE job = ? ORDER BY place", (job,)
            ).fetchall()
        return [msgspec.json.decode(record, type=CheckResult) for (record,) in rows]

    def jobs(self) -> list[str]:
        """Return the ids of all jobs, in the order they were started."""
        with self._lock:
            return [job for (job,) in self._db.execute("SELECT id FROM job ORDER BY rowid")]

    def state(self, job: str) -> str | None:
        """Return running, finished, interrupted, or None for an unknown job."""
        with self._lock:
            row = self._db.execute("SELECT state FROM job WHERE id = ?", (job,)).fetchone()
        return row[0] if row else None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit all that the block writes at once, or nothing of it."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        with self._lock:
            self._db.execute(statement, values)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

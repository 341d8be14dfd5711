"""The benchmark of the resident runner prints its tables, and that of forks."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tests.conftest import PROJECT, as_root


def test_every_part_has_its_table() -> None:
    command = [sys.executable, "benchmarks/runner.py", "--runs", "1", "--queues", "3"]
    parts = ["commands", "overhead", "throughput", "queue"]
    # What a sealed process holds is shown to root alone.
    parts += ["memory"] if as_root() else []
    command += [word for part in parts for word in ("--only", part)]
    came = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert came.returncode == 0, came.stderr
    _, *tables = came.stdout.strip().split("\n\n")
    assert len(tables) == len(parts)
    found = dict(zip(parts, (table.splitlines()[2:] for table in tables), strict=True))
    assert [len(rows) for rows in found.values()] == [2, 2, 3, 1, 4][: len(parts)]
    assert found["queue"][0].endswith("| 3 | 3 | 0 | 0 |")
    for row in found.get("memory", []):
        assert float(row.split(" | ")[1]) > 1


def test_forks_are_timed_before_and_after() -> None:
    command = [sys.executable, "benchmarks/forks.py", "--runs", "1"]
    came = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert came.returncode == 0, came.stderr
    rows = [row.split(" | ")[0] for row in came.stdout.splitlines() if row.startswith("| ")]
    assert rows[1:3] == ["| as the imports leave them"] * 2
    assert rows[3:] == [rows[3]] * 2


def test_the_peak_of_what_is_below_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    import os

    import private_memory

    seen = threading.Event()
    held = "import sys; held = bytearray(b'x') * 30_000_000; print(flush=True); sys.stdin.read()"
    with private_memory.Watch(os.getpid()) as watch:
        command = [sys.executable, "-c", held]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, **pipes) as child:  # type: ignore[call-overload]
            child.stdout.readline()
            seen.wait(0.2)
            child.stdin.close()
    assert 30 < watch.total < 60
    assert list(watch.peak) == [child.pid]

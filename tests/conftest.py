"""What the tests share: the courses of toy labs, and a real runner to send exercises to."""

from __future__ import annotations

import contextlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the runner, and before torch is imported

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from verify import client
from verify.results import CheckResult

# A shell makes what it starts in the background deaf to Ctrl-C; what is tested here must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT = Path(__file__).parents[1]
COURSES = Path(__file__).parent / "courses"


class Runner:
    """A resident runner in a process of its own, as ``lab.up`` starts it."""

    def __init__(self, labs: Path, folder: Path, **how: Any) -> None:
        self.labs = labs
        self.folder = folder
        self.socket = folder / "runner.sock"
        self.results = folder / "results.sqlite"
        self.how = how
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Runner:
        command = [sys.executable, "-I", "-m", "verify.supervisor", "--socket", str(self.socket)]
        command += ["--labs", str(self.labs), "--results", str(self.results)]
        with (self.folder / "runner.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, **self.how)
        self.wait()
        return self

    def wait(self) -> None:
        """Wait until it answers."""
        assert self.process is not None
        for _ in range(600):
            with contextlib.suppress(client.NoRunner):
                client.hello(self.socket)
                return
            assert self.process.poll() is None, (self.folder / "runner.log").read_text()
            time.sleep(0.05)
        raise AssertionError("the runner did not come up")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)

    def verify(
        self, skill: str, exercise: str | bytes | None, seed: int | None = None
    ) -> dict[str, CheckResult]:
        """Have one exercise judged and return its results by check name."""
        import msgspec

        text = exercise.encode() if isinstance(exercise, str) else exercise
        trouble = None if text is not None else "exercise.py is not there."
        results: dict[str, CheckResult] = {}

        def take(event: dict[str, Any]) -> None:
            if event["event"] == "result":
                result = msgspec.convert(event["result"], CheckResult)
                results[result.name] = result

        with client.connect(self.socket) as channel:
            submission = {"skill": skill, "exercise": text, "trouble": trouble}
            client.verify(channel, [submission], seed, take)
        return results


@contextlib.contextmanager
def running(course: Path, folder: Path, **how: Any) -> Iterator[Runner]:
    """Yield a started runner and stop it afterwards."""
    runner = Runner(course, folder, **how).start()
    try:
        yield runner
    finally:
        if runner.process is not None and runner.process.poll() is None:
            runner.stop()


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner whose one lab has a check for every outcome."""
    with running(COURSES / "outcomes", tmp_path_factory.mktemp("outcomes")) as runner:
        yield runner


@pytest.fixture(scope="session")
def real_labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A runner with the real labs."""
    with running(PROJECT / "labs", tmp_path_factory.mktemp("labs")) as runner:
        yield runner


def alive(pid: int) -> bool:
    """Tell whether ``pid`` runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def descendants(pid: int) -> list[int]:
    """Return every process below ``pid``."""
    from verify.pids import children

    below = children(pid)
    return below + [deeper for child in below for deeper in descendants(child)]


def as_root() -> bool:
    return os.geteuid() == 0

"""Services are started detached, known by identity, stopped whole; strangers are left alone."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verify.lab import processes
from verify.lab.processes import Service, identify, members, stat

SLEEP = ["sleep", "60"]


def until(true, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(true())


def test_a_service_has_a_session_of_its_own_and_its_output_in_its_log(service: Service) -> None:
    command = ["sh", "-c", "echo out; echo err >&2; exec sleep 60"]
    identity = service.start(command, os.environ, Path("/"))
    assert os.getsid(identity.pid) == identity.pid != os.getsid(0)
    assert until(lambda: service.last_lines(5) == ["out", "err"])
    assert service.running() == identity
    assert Path(f"/proc/{identity.pid}/cwd").resolve() == Path("/")


def test_it_outlives_the_process_that_started_it(service: Service) -> None:
    code = (
        "import os, sys; from pathlib import Path; from verify.lab.processes import Service;"
        "Service('sleeper', Path(sys.argv[1]), Path(sys.argv[2]))"
        ".start(['sleep', '60'], os.environ, Path('/'))"
    )
    root = Path(processes.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, service.record, service.log], check=True, cwd=root)
    running = service.running()
    assert running is not None
    assert service.stop()
    assert identify(running.pid) is None


def test_stop_is_idempotent_and_takes_what_the_service_started(service: Service) -> None:
    identity = service.start(["sh", "-c", "sleep 60 & sleep 60 & wait"], os.environ, Path("/"))
    assert until(lambda: len(members(identity.pid)) == 3)
    assert service.stop(grace=0.5)
    assert members(identity.pid) == []
    assert not service.stop()
    assert not service.record.exists()


def test_a_service_that_ignores_term_is_killed_after_its_grace(service: Service) -> None:
    command = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN);"
               "print('ready', flush=True); time.sleep(60)"]  # fmt: skip
    identity = service.start(command, os.environ, Path("/"))
    assert until(lambda: service.last_lines(1) == ["ready"])
    began = time.monotonic()
    service.stop(grace=0.3)
    assert 0.2 < time.monotonic() - began < 5
    assert identify(identity.pid) is None


def test_a_stranger_with_the_same_process_id_is_not_signalled(service: Service) -> None:
    stranger = subprocess.Popen(SLEEP)
    try:
        known = identify(stranger.pid)
        assert known is not None
        earlier = dataclasses.replace(known, ticks=known.ticks - 1)
        other_boot = dataclasses.replace(known, boot="00000000-0000-0000-0000-000000000000")
        for recorded in (earlier, other_boot):
            service.remember(recorded)
            assert service.running() is None
            assert not service.stop(grace=0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"pid": 1}', '{"pid": "x", "ticks": 0, "boot": ""}']
)
def test_a_spoilt_record_is_a_service_that_does_not_run(service: Service, text: str) -> None:
    service.record.write_text(text)
    assert service.running() is None
    assert not service.stop()


def test_a_killed_service_does_not_run_and_a_zombie_does_not_either(service: Service) -> None:
    identity = service.start(SLEEP, os.environ, Path("/"))
    os.kill(identity.pid, signal.SIGKILL)
    assert until(lambda: service.running() is None)


def test_a_command_that_does_not_exist_leaves_no_record(service: Service) -> None:
    with pytest.raises(FileNotFoundError):
        service.start(["/no/such/command"], os.environ, Path("/"))
    assert not service.record.exists()


def test_names_with_brackets_and_spaces_are_read(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([odd, "60"])
    try:
        assert until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "a) S 1 (b\n")
        found = stat(process.pid)
        assert found is not None
        assert found.group == os.getpgid(process.pid)
    finally:
        process.kill()
        process.wait()


def test_a_long_log_is_set_aside(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_LOG_BYTES", 10)
    service.log.write_text("x" * 11)
    service.start(["true"], os.environ, Path("/"))
    assert service.log.with_suffix(".old.log").read_text() == "x" * 11
    assert service.log.read_text() == ""


def test_the_record_says_what_the_next_command_needs(service: Service) -> None:
    identity = service.start(SLEEP, os.environ, Path("/"), port=1234)
    told = json.loads(service.record.read_text())
    assert told == dataclasses.asdict(identity)
    assert told["port"] == 1234

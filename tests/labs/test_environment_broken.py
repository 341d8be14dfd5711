"""Machines that are really broken: each is named with its fix, and nothing else is.

Disks are small file systems in name spaces of the test's own, limits those of a shell.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from verify.machine import advice

_ROOT = () if os.geteuid() == 0 else ("--map-root-user",)
_SPACE = ("unshare", *_ROOT, "--mount", "sh", "-ec")
_CHECKS = shlex.join(
    [sys.executable, "-I", "-m", "verify.node_checks", "--labs", str(PROJECT / "labs")]
)


def _spaces() -> bool:
    try:
        mount = "mount -t tmpfs none /mnt"
        return subprocess.run([*_SPACE, mount], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_spaces = pytest.mark.skipif(not _spaces(), reason="no mount name space can be made here")


def found(*command: str, **environ: str) -> dict[str, dict[str, Any]]:
    """Return what is not well, by check, when the checks run after a shell's ``command``."""
    done = subprocess.run(
        [*command[:-1], f"{command[-1]}{_CHECKS}"],
        capture_output=True, text=True, env={**os.environ, **environ}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    results = [event["result"] for event in events if event["event"] == "result"]
    assert len(results) > 20
    return {it["name"]: it for it in results if it["status"] not in ("passed", "not_run")}


@pytest.fixture(scope="module")
def usual() -> set[str]:
    """What this machine is advised of anyway: it may have one core, or little room."""
    bad = found("sh", "-ec", "")
    assert all(it["level"] == "advice" for it in bad.values()), bad
    return set(bad)


def only(bad: dict[str, dict[str, Any]], usual: set[str]) -> tuple[dict[str, Any], str]:
    """Return the one thing that is not well, and the command that is told."""
    (name,) = set(bad) - usual
    cause, command = advice(bad[name]["hint"])
    assert cause
    assert command
    return bad[name], command


def test_64_open_files(usual: set[str]) -> None:
    result, command = only(found("sh", "-ec", "ulimit -n 64; "), usual)
    assert (result["name"], result["level"]) == ("open_files", "check")
    assert "64 files" in result["message"]
    assert "ulimit -n 8192" in command
    assert "--ulimit nofile=8192" in command


@needs_spaces
def test_a_full_disk(usual: set[str], tmp_path: Path) -> None:
    full = f"mount -t tmpfs -o size=2m none {tmp_path}; cat /dev/zero >{tmp_path}/all || true; "
    result, command = only(found(*_SPACE, full, HF_HOME=str(tmp_path)), usual)
    assert (result["name"], result["level"]) == ("disk_free", "check")
    assert f"0 MiB are free in {tmp_path} (HF_HOME)" in result["message"]
    assert command.startswith(f"df -h {tmp_path}")


@needs_spaces
def test_a_disk_without_inodes(usual: set[str], tmp_path: Path) -> None:
    few = f"mount -t tmpfs -o size=30g,nr_inodes=100 none {tmp_path}; "
    result, command = only(found(*_SPACE, few, HF_HOME=str(tmp_path)), usual)
    assert result["name"] == "disk_free"
    assert "inodes" in result["hint"]
    assert command.startswith(f"df -i {tmp_path}")


@needs_spaces
def test_a_cache_that_is_read_only(usual: set[str], tmp_path: Path) -> None:
    read_only = f"mount -t tmpfs -o ro,size=30g none {tmp_path}; "
    result, command = only(found(*_SPACE, read_only, HF_HOME=str(tmp_path)), usual)
    assert (result["name"], result["level"]) == ("caches_writable", "check")
    assert "Read-only file system" in result["message"]
    assert str(tmp_path) in command


@needs_spaces
def test_a_cache_from_which_no_code_is_loaded(usual: set[str], tmp_path: Path) -> None:
    noexec = f"mount -t tmpfs -o noexec,size=30g none {tmp_path}; "
    result, _ = only(found(*_SPACE, noexec, TRITON_CACHE_DIR=str(tmp_path)), usual)
    assert result["name"] == "caches_writable"
    assert "Compiled code cannot be loaded" in result["message"]


@needs_spaces
def test_the_shared_memory_that_docker_gives(usual: set[str]) -> None:
    small = "mount -t tmpfs -o size=64m none /dev/shm; "
    result, command = only(found(*_SPACE, small), usual)
    assert (result["name"], result["level"]) == ("shared_memory", "check")
    assert "64 MiB of shared memory" in result["message"]
    assert "--shm-size=1g" in command
    assert "shm_size: 1gb in compose.yaml" in command

"""A job's room on disk: bounded where it can be mounted, looked at where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import as_root
from verify import scratch

MIB = 1024**2
UID = 58_123

IN_A_CHILD = """
import errno, os, sys
from verify import scratch
scratch.enter(sys.argv[1], int(sys.argv[2]), 1024**2)
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
for place in (sys.argv[1], "/dev/shm"):
    with open(f"{place}/file", "wb", buffering=0) as file:
        file.write(bytes(1024**2))
        try:
            file.write(bytes(4096))
        except OSError as error:
            print(errno.errorcode[error.errno])
try:
    for number in range(100_000):
        os.close(os.open(f"{sys.argv[1]}/{number}", os.O_CREAT | os.O_WRONLY))
except OSError as error:
    print(errno.errorcode[error.errno], number < scratch.FILES)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write to; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_a_mounted_room_is_full_at_its_limit_and_goes_with_its_processes(open_folder: Path) -> None:
    if not as_root():
        pytest.skip("only root may mount")
    room = open_folder / "room"
    before = set(Path(scratch.SHARED_MEMORY).iterdir())
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CHILD, str(room), str(UID)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["ENOSPC", "ENOSPC", "ENOSPC", "True"], done.stderr
    assert list(room.iterdir()) == []
    assert set(Path(scratch.SHARED_MEMORY).iterdir()) - before <= set()  # nothing came from there


def test_whoever_may_not_mount_is_told_so(open_folder: Path) -> None:
    if not as_root():
        pytest.skip("becoming another user needs root")
    code = f"from verify import scratch; scratch.enter({str(open_folder / 'room')!r}, None, 1024)"
    command = ["setpriv", "--reuid=58123", "--regid=58123", "--clear-groups", sys.executable, "-c"]
    done = subprocess.run([*command, code], capture_output=True, text=True, check=False)
    assert "unshare: Operation not permitted" in done.stderr


def test_a_folder_over_its_limit_is_found_however_its_files_lie(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for number, place in enumerate((tmp_path, deep, deep)):
        (place / f"{number}").write_bytes(os.urandom(MIB))
    assert not scratch.over(str(tmp_path), 4 * MIB, None, bounded=False)
    assert scratch.over(str(tmp_path), 2 * MIB, None, bounded=False)
    assert not scratch.over(str(tmp_path), 2 * MIB, None, bounded=True)


def test_a_hole_in_a_file_takes_no_room(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert not scratch.over(str(tmp_path), MIB, None, bounded=False)


def test_what_a_link_leads_to_is_not_counted(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "large").write_bytes(os.urandom(2 * MIB))
    (inside / "link").symlink_to(outside)
    assert not scratch.over(str(inside), MIB, None, bounded=False)


def test_too_many_files_are_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "FILES", 10)
    for number in range(10):
        (tmp_path / f"{number}").touch()
    assert not scratch.over(str(tmp_path), MIB, None, bounded=False)
    (tmp_path / "one more").touch()
    assert scratch.over(str(tmp_path), MIB, None, bounded=False)


def test_shared_memory_counts_for_the_user_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "SHARED_MEMORY", str(tmp_path))
    (tmp_path / "large").write_bytes(os.urandom(2 * MIB))
    nowhere = str(tmp_path / "none")
    assert scratch.over(nowhere, MIB, os.getuid(), bounded=True)
    assert not scratch.over(nowhere, MIB, os.getuid() + 1, bounded=True)
    assert not scratch.over(nowhere, MIB, None, bounded=True)

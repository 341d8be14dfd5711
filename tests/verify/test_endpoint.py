"""The runner's socket: whose it is, who may speak to it, and what becomes of an old one."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.conftest import as_root
from verify.endpoint import listening

OWNER = 1234


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_in_a_private_folder_it_is_its_users_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with listening(tmp_path / "s"):
        assert mode(tmp_path / "s") == 0o600
    assert not (tmp_path / "s").exists()


def test_one_that_a_killed_runner_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with listening(tmp_path / "s"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))


def test_a_folder_may_lie_deeper_than_a_sockets_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    with listening(folder / "s"):
        assert (folder / "s").is_socket()


@pytest.mark.skipif(not as_root(), reason="only root can give a folder away (CI runs as root)")
def test_root_makes_it_as_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, OWNER, OWNER)
    tmp_path.chmod(0o755)
    with listening(tmp_path / "s"):
        told = (tmp_path / "s").stat()
        assert (told.st_uid, told.st_gid, mode(tmp_path / "s")) == (OWNER, 0, 0o660)
        assert os.geteuid() == 0
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("folder_mode", [0o700, 0o755])
def test_in_ones_own_folder_it_is_for_nobody_else(tmp_path: Path, folder_mode: int) -> None:
    tmp_path.chmod(folder_mode)
    with listening(tmp_path / "s"):
        assert mode(tmp_path / "s") == 0o600

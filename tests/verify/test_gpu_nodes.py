"""What a process needs to compute on a GPU: nodes, files, groups; nothing where there is none."""

from __future__ import annotations

import importlib.metadata
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.verify.test_landlock import EACCES, behind
from verify import gpu_nodes, landlock


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which torch was built for CUDA 13, without a GPU yet."""
    for name, place in {
        "_CONTROL": "dev/nvidiactl",
        "_UNIFIED": "dev/nvidia-uvm",
        "_WINDOWS": "dev/dxg",
        "_WINDOWS_LIBRARIES": "usr/lib/wsl",
    }.items():
        monkeypatch.setattr(gpu_nodes, name, tmp_path / place)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.13.0+cu130")
    (tmp_path / "dev").mkdir()
    gpu_nodes.in_use.cache_clear()
    yield tmp_path
    gpu_nodes.in_use.cache_clear()


def test_without_one_nothing_more_can_be_reached(machine: Path) -> None:
    assert not gpu_nodes.in_use()
    assert gpu_nodes.reachable() == {}
    assert gpu_nodes.groups() == []


def test_its_nodes_are_one(machine: Path) -> None:
    (machine / "dev/nvidiactl").touch()
    assert gpu_nodes.in_use()
    found = gpu_nodes.reachable()
    assert found["/proc/driver"] == landlock.READ
    assert landlock.Right.WRITE_FILE in found["/proc/self/task"]


def test_a_lab_on_the_cpu_does_not_use_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "dev/nvidiactl").touch()
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.13.0+cpu")
    assert not gpu_nodes.in_use()


def test_under_windows_there_must_be_a_library_of_nvidias(machine: Path) -> None:
    """The node alone is that of any GPU."""
    (machine / "dev/dxg").touch()
    assert not gpu_nodes.in_use()
    (machine / "usr/lib/wsl/lib").mkdir(parents=True)
    (machine / "usr/lib/wsl/lib/libcuda.so.1").touch()
    gpu_nodes.in_use.cache_clear()
    assert gpu_nodes.in_use()
    assert gpu_nodes.reachable()[str(machine / "dev/dxg")] == landlock.USE


def test_a_node_that_is_for_a_group_needs_that_group(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "dev/nvidiactl").touch()
    for name, mode in (("open", 0o666), ("video", 0o660)):
        (machine / name).touch()
        (machine / name).chmod(mode)
    monkeypatch.setattr(gpu_nodes, "_nodes", lambda: [machine / "open"])
    assert gpu_nodes.groups() == []
    monkeypatch.setattr(gpu_nodes, "_nodes", lambda: [machine / "open", machine / "video"])
    assert gpu_nodes.groups() == [(machine / "video").stat().st_gid]


def test_the_node_of_unified_memory_is_made_where_it_is_not(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = machine / "nvidia-modprobe"
    tool.write_text(f"#!/bin/sh\necho $@ >>{machine}/asked\ntouch {machine}/dev/nvidia-uvm\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{machine}:/usr/bin:/bin")
    gpu_nodes.make_unified()
    assert not (machine / "asked").exists(), "a machine without a driver is left alone"
    (machine / "dev/nvidiactl").touch()
    gpu_nodes.make_unified()
    gpu_nodes.make_unified()
    assert (machine / "asked").read_text() == "-u -c 0\n"


def name_a_thread() -> None:
    """As libcuda does it from R570 on: each thread by its file, for reading and writing."""
    failed: list[OSError] = []

    def named() -> None:
        try:
            file = os.open(f"/proc/self/task/{threading.get_native_id()}/comm", os.O_RDWR)
            os.write(file, b"cuda-EvtHandlr")
            os.close(file)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=named)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def test_behind_the_file_wall_threads_can_be_named(machine: Path) -> None:
    closed = {"/proc/self": landlock.READ}
    assert behind(closed, name_a_thread) == EACCES, "without it CUDA ends in error 304"
    (machine / "dev/nvidiactl").touch()
    assert behind({**closed, **gpu_nodes.reachable()}, name_a_thread) == "done"
    other = Path(f"/proc/{os.getpid()}/comm")  # of the process that forked it
    both = {**closed, **gpu_nodes.reachable()}
    assert behind(both, lambda: other.write_text("x")) == EACCES

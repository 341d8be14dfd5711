"""The variant follows the hardware, the stamp says what an environment was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from verify.lab import locks
from verify.lab.layout import Layout

PROJECT = Path(__file__).parents[2]


def tool(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    monkeypatch.setattr(locks, "_DRIVER_FILES", (folder / "driver",))
    monkeypatch.setenv("PATH", str(folder))
    if script is not None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "nvidia-smi").chmod(0o755)


@pytest.mark.parametrize(
    ("script", "variant"),
    [
        (None, "cpu"),
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-0)'", "cuda"),
        ("echo 'No devices were found'; exit 6", "cpu"),
        ('echo "couldn\'t communicate with the NVIDIA driver"; exit 9', "cpu"),
        ("exit 0", "cpu"),
    ],
)
def test_the_variant_follows_the_gpu(
    layout: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    variant: str,
) -> None:
    tool(tmp_path, monkeypatch, script)
    assert locks.find_variant(layout).name == variant


def test_what_was_asked_for_wins_until_it_is_asked_for_no_more(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, monkeypatch, None)
    locks.ask_for(layout, "gpu")
    assert locks.find_variant(layout).torch_lock == "torch-cuda.lock"
    locks.ask_for(layout, None)
    assert locks.find_variant(layout).torch_lock == "torch-cpu.lock"


def test_the_driver_alone_is_a_gpu(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, monkeypatch, None)
    (tmp_path / "driver").touch()
    found = locks.find_variant(layout)
    assert (found.name, found.torch_lock) == ("cuda", "torch-cuda.lock")
    assert "GPU" in found.why


def test_every_variant_has_its_lock_and_torch_is_in_it_alone() -> None:
    folder = PROJECT / "images" / "locks"
    for variant in ("cpu", "cuda"):
        lock = folder / locks.Variant(variant, "", 0).torch_lock
        assert any(name.startswith("torch==") for name in locks.packages(lock))
    assert not any(n.startswith("torch==") for n in locks.packages(folder / locks.LAB))
    assert any(n.startswith("pytest==") for n in locks.packages(folder / locks.TEST))


def test_packages_are_counted_without_comments_hashes_and_markers(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(
        '# a==1\na==1 \\\n    --hash=sha256:0\nb==2 ; python_version < "3.12" \\\n    --hash=x\n'
    )
    assert locks.packages(lock) == ["a==1", "b==2"]


def test_a_stamp_is_read_as_it_was_written(tmp_path: Path) -> None:
    stamp = locks.Stamp("/venv", "3.11", "cpu", {"a.lock": "0"})
    locks.write_stamp(tmp_path / "stamp.json", stamp)
    assert locks.read_stamp(tmp_path / "stamp.json") == stamp
    (tmp_path / "stamp.json").write_text('{"venv": "/venv"}')
    assert locks.read_stamp(tmp_path / "stamp.json") is None


def test_a_stamp_lacks_what_is_new_or_changed() -> None:
    made = locks.Stamp("/venv", "3.11", "cpu", {"a": "0", "b": "0"})
    wanted = locks.Stamp("/venv", "3.11", "cpu", {"a": "0", "b": "1", "c": "0"})
    assert made.lacks(wanted) == ["b", "c"]

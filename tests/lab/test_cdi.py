"""A CDI specification is read for the devices it names and the files it hands over."""

from __future__ import annotations

from pathlib import Path

import pytest

from verify.lab import cdi

WRITTEN = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  - path: /dev/dri/card0
    hostPath: /dev/dri/card1
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args: [nvidia-cdi-hook, update-ldcache]
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/lib/libcuda.so.580.159.03
    hostPath: /usr/lib/libcuda.so.580.159.03
    options: [ro, nosuid, nodev, bind]
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: all
kind: nvidia.com/gpu
"""
FILES = (
    "dev/nvidiactl",
    "dev/dri/card1",
    "usr/bin/nvidia-cdi-hook",
    "usr/lib/libcuda.so.580.159.03",
    "dev/nvidia0",
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine on which everything is where the specification says."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    write(tmp_path, "etc/cdi/nvidia.yaml", WRITTEN)
    return tmp_path


def write(root: Path, name: str, text: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root / name


def test_it_names_devices(machine: Path) -> None:
    (found,) = cdi.find(machine)
    assert found.devices == ("nvidia.com/gpu=0", "nvidia.com/gpu=all")
    assert found.gone == ()
    assert found.trouble == ""


@pytest.mark.parametrize("file", FILES)
def test_each_file_it_hands_over_must_be_there(machine: Path, file: str) -> None:
    (machine / file).unlink()
    (found,) = cdi.find(machine)
    assert found.gone == (f"/{file}",)


def test_a_file_that_may_not_be_seen_is_not_gone(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(self: Path) -> None:
        raise PermissionError

    text = machine / "etc/cdi/nvidia.yaml"
    monkeypatch.setattr(Path, "stat", forbid)
    found = cdi.read(text, machine)
    assert found is not None
    assert found.gone == ()


def test_other_kinds_of_device_are_none_of_ours(machine: Path) -> None:
    write(machine, "etc/cdi/nic.yaml", "cdiVersion: 0.5.0\nkind: example.com/nic\ndevices: []\n")
    assert len(cdi.find(machine)) == 1


def test_what_goes_first_stands_last(machine: Path) -> None:
    newer = write(machine, "var/run/cdi/nvidia.yaml", WRITTEN.replace("nvidia0", "nvidia7"))
    found = cdi.find(machine)
    assert [it.file for it in found] == [machine / "etc/cdi/nvidia.yaml", newer]
    assert found[-1].gone == ("/dev/nvidia7",)


def test_json_is_read_too(machine: Path) -> None:
    text = '{"kind": "nvidia.com/gpu", "devices": [{"name": "all", "containerEdits": {}}]}'
    found = cdi.read(write(machine, "etc/cdi/other.json", text), machine)
    assert found is not None
    assert found.devices == (cdi.ALL,)


@pytest.mark.parametrize("text", ["kind: [", "devices: []\n", "- a\n", "kind: {}\n"])
def test_what_cannot_be_read_says_so(machine: Path, text: str) -> None:
    found = cdi.read(write(machine, "etc/cdi/nvidia.yaml", text), machine)
    assert found is not None
    assert found.trouble
    assert found.devices == ()


def test_no_folder_is_no_specification(tmp_path: Path) -> None:
    assert cdi.find(tmp_path) == ()

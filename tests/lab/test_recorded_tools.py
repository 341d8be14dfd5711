"""What Docker, the toolkit and /proc say on machines of several kinds, and what is read in it.

Each file below `recorded/` says in its first line where it is from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.lab.machines import FRESH, NO_GPU, RECORDED, gb10, seen
from tests.lab.test_host import inert
from verify.kinds import Traits, recognise
from verify.lab import engine as engines
from verify.lab import gpu, gpu_wiring, host
from verify.lab.engine import Engine
from verify.room import machine_memory, meminfo

ENGINES = ("aarch64-kylin", "nvidia-default", "wsl-desktop", "x86-no-gpu")


def said(name: str) -> str:
    source, _, text = (RECORDED / f"{name}.txt").read_text("utf-8").partition("\n")
    assert source.startswith("# ")
    return text


def rows(name: str) -> dict[str, Any]:
    """Return what the text of ``docker info`` says, as ``GET /info`` has it."""
    _, _, text = said(f"docker-info/{name}").partition("Server:\n")
    told = dict(re.findall(r"^ (\w[\w ]*): (.+)$", text, re.MULTILINE))
    devices = re.findall(r"^  cdi: (\S+)$", text, re.MULTILINE)
    folders = re.search(r"^ CDI spec directories:\n((?:  /\S+\n)+)", text, re.MULTILINE)
    security = re.search(r"^ Security Options:\n((?:  .+\n)+)", text, re.MULTILINE)
    return {
        "ServerVersion": told["Server Version"],
        "Architecture": told["Architecture"],
        "OSType": told["OSType"],
        "CgroupVersion": told.get("Cgroup Version"),
        "Runtimes": dict.fromkeys(told["Runtimes"].split()),
        "CDISpecDirs": folders[1].split() if folders else [],
        "DiscoveredDevices": [{"Source": "cdi", "ID": it} for it in devices],
        "SecurityOptions": [f"name={it}" for it in (security[1].split() if security else ())],
        "DockerRootDir": told["Docker Root Dir"],
        "KernelVersion": told["Kernel Version"],
    }


def engine(name: str) -> Engine:
    told = rows(name)
    version = {"Version": told["ServerVersion"], "ApiVersion": "1.51"}
    return engines.read("unix:///var/run/docker.sock", told, version, "2.40.3\n", None)


# -------------------------------------------------------------------------------------- the engine
@pytest.mark.parametrize(
    ("name", "wiring"),
    [("nvidia-default", "cdi"), ("wsl-desktop", "runtime"), ("x86-no-gpu", None)],
)
def test_how_an_engine_hands_out_a_gpu_is_read(name: str, wiring: str | None) -> None:
    assert gpu_wiring.wiring(engine(name), gb10()) == wiring


def test_another_makers_cdi_device_is_not_taken_for_the_gpu() -> None:
    assert engine("wsl-desktop").cdi_devices == {"docker.com/gpu=webgpu"}
    assert not gpu_wiring.knows_device(engine("wsl-desktop"), gb10(specifications=(FRESH,)))


@pytest.mark.parametrize("name", ["x86-no-gpu", "nvidia-default", "wsl-desktop"])
def test_an_engine_in_order_gives_no_alarm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inert(tmp_path, monkeypatch)
    found = NO_GPU if name == "x86-no-gpu" else gb10()
    variant = "gpu" if found.card else "cpu"
    results = host.checks("compose", variant, seen(engine(name), found))
    assert [it.name for it in results if it.status == "failed"] == []


def test_an_engine_of_2019_on_aarch64_is_told_to_be_upgraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inert(tmp_path, monkeypatch)
    results = host.checks("compose", "cpu", seen(engine("aarch64-kylin"), NO_GPU))
    assert [it.name for it in results if it.status == "failed"] == ["host_compose"]
    assert engine("aarch64-kylin").architecture == "arm64"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("aarch64-kylin", "aarch64 without a GPU"), ("x86-no-gpu", "x86-64 without a GPU")],
)
def test_a_machine_without_a_gpu_is_of_its_processors_kind(name: str, kind: str) -> None:
    found = recognise(Traits(None, machine=rows(name)["Architecture"]))
    assert found is not None
    assert found.name == kind


# ------------------------------------------------------------------------------------- the toolkit
def test_the_toolkit_of_a_spark_is_read() -> None:
    assert gpu.toolkit_version(said("nvidia-ctk/gb10.version")) == "1.19.0"


@pytest.mark.parametrize(
    ("name", "devices"),
    [("one-gpu", 3), ("wsl", 1), ("none", 0), ("conflict", 0)],
)
def test_the_devices_that_it_lists_are_read(name: str, devices: int) -> None:
    found = gpu.listed(said(f"nvidia-ctk/{name}.list"))
    assert len(found) == devices
    assert ("nvidia.com/gpu=all" in found) == bool(devices)


# ------------------------------------------------------------------------------------ below /proc
@pytest.mark.parametrize(
    ("name", "version"),
    [("gb10", "580.142"), ("gb300", "580.173.02"), ("x86-mismatch", "580.173.02")],
)
def test_the_drivers_version_is_read(name: str, version: str) -> None:
    assert gpu.driver_version(said(f"proc/{name}.version")) == version


@pytest.mark.parametrize("name", ["gb10", "x86"])
def test_memory_is_what_the_kernel_could_give(tmp_path: Path, name: str) -> None:
    (tmp_path / "meminfo").write_text(said(f"proc/{name}.meminfo"))
    told = meminfo(tmp_path)
    assert machine_memory(tmp_path).bytes == told["MemAvailable"] > told["MemFree"]

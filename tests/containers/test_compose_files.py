"""What Compose makes of the files: defaults for everything, GPU keys only where they belong."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.containers.conftest import docker
from verify.lab import compose

GPU = "images/gpu/compose.yaml"
CDI, RUNTIME = "images/gpu/compose.cdi.yaml", "images/gpu/compose.runtime.yaml"


@pytest.fixture(autouse=True)
def bare(engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the person's own."""
    for name in [name for name in os.environ if name.startswith(("LAB_", "COMPOSE_"))]:
        monkeypatch.delenv(name)


def read(*overlays: str) -> dict[str, Any]:
    files = [word for file in ("compose.yaml", *overlays) for word in ("-f", file)]
    ended = docker(
        "compose", "--env-file", os.devnull, *files, "config", "--format", "json", cwd=PROJECT
    )
    assert ended.stderr == ""  # it says so when a variable is not set
    found: dict[str, Any] = json.loads(ended.stdout)
    return found["services"]


def test_no_variable_is_without_a_default() -> None:
    for file in ("compose.yaml", GPU, CDI, RUNTIME):
        names = re.findall(r"\$\{(\w+)(:-)?", (PROJECT / file).read_text())
        assert all(default for _, default in names)
    assert read()["jupyter"]["user"] == "1000:1000"


def test_the_cpu_variant_has_no_gpu_key() -> None:
    for service in read().values():
        told = json.dumps(service).lower()
        assert service["image"].endswith(":cpu")
        assert not re.search("nvidia|gpu|cdi|runtime", told)
        assert "reservations" not in service.get("deploy", {}).get("resources", {})


def test_the_gpu_variant_has_the_walls_of_the_cpu_variant_and_the_gpu() -> None:
    plain, gpu = read(), read(GPU)
    for name, service in gpu.items():
        assert service["image"].endswith(":gpu")
        assert service["build"]["dockerfile"] == "images/gpu/Dockerfile"
        for wall in ("cap_drop", "cap_add", "security_opt", "read_only", "user", "network_mode"):
            assert service.get(wall) == plain[name].get(wall), wall


def test_the_gpu_comes_as_a_cdi_device() -> None:
    for service in read(GPU, CDI).values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["device_ids"]) == ("cdi", ["nvidia.com/gpu=all"])
        assert "runtime" not in service


def test_or_by_the_runtime() -> None:
    for service in read(GPU, RUNTIME).values():
        assert service["runtime"] == "nvidia"
        assert service["environment"] == {
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        }


def test_every_wiring_names_files_that_are_there() -> None:
    for files in compose.OVERLAYS.values():
        assert all((PROJECT / file).is_file() for file in files)

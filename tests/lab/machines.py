"""Engines and GPUs for the tests: real ones as recorded, and what others would say."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from verify.lab import cdi
from verify.lab.choice import Seen
from verify.lab.engine import Engine, read
from verify.lab.engine_troubles import NoEngine
from verify.lab.gpu import Gpu

RECORDED = Path(__file__).parent / "recorded"

NO_DOCKER = NoEngine("Docker is not installed.", "nobody did", "nothing", installed=False)
NOT_ALLOWED = NoEngine("You may not use it.", "no group", "sudo usermod -aG docker $USER")
NO_GPU = Gpu()
SPEC = Path("/etc/cdi/nvidia.yaml")
FRESH = cdi.Specification(SPEC, (cdi.ALL,))
STALE = cdi.Specification(SPEC, (cdi.ALL,), gone=("/dev/dri/card7",))


@functools.cache
def engine_answers() -> bool:
    """Whether a Docker engine answers Docker's own command line."""
    if shutil.which("docker") is None:
        return False
    command = ["docker", "info", "--format", "{{.ServerVersion}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_engine = pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def info(name: str) -> dict[str, Any]:
    """Return what an engine answered to ``GET /info``: less of it, folders of CDI changed."""
    found: dict[str, Any] = json.loads((RECORDED / f"info.{name}.json").read_text())
    return found


def engine(name: str = "docker-28-cdi", **other: Any) -> Engine:
    """Return a recorded engine with Compose 2.40.3; ``other`` replaces what ``/info`` said."""
    told = info(name) | other
    version = {"Version": told["ServerVersion"], "ApiVersion": "1.51"}
    return read("unix:///var/run/docker.sock", told, version, "2.40.3\n", None)


def gb10(**other: Any) -> Gpu:
    """Return the GPU of a DGX Spark with everything in order; ``other`` changes it."""
    said: dict[str, Any] = {
        "card": True,
        "names": ("NVIDIA GB10",),
        "driver": "580.159.03",
        "toolkit": "1.19.1",
        "specifications": (FRESH,),
    }
    return Gpu(**(said | other))


def seen(found: Engine | NoEngine, gpu: Gpu = NO_GPU) -> Seen:
    """Return a machine that has both."""
    return Seen(lambda: found, lambda: gpu)

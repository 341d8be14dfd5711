"""What the runner tells of itself and its machine, without importing what it tells of."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from verify.results import Environment
from verify.walls import Walls

_TOLD = ("torch", "transformers", "datasets", "peft", "accelerate", "bitsandbytes")
_SECONDS = 5.0  # nvidia-smi wakes the driver where nothing keeps it awake


def environment(runtime: str, walls: Walls) -> Environment:
    """Return what a run's record says of where it was judged."""
    return Environment(
        runtime=runtime,
        sealing=walls.level,
        walls=walls.names,
        notes=list(walls.notes),
        versions=versions(),
        gpu=gpu(),
        machine=f"{platform.system()} {platform.machine()}",
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in _TOLD:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version: str | None = importlib.metadata.version(name)
            if version is not None:  # as where its METADATA is gone
                found[name] = version
    return found


def gpu() -> str | None:
    """Return the first GPU's name as the driver gives it, or None."""
    if not Path("/proc/driver/nvidia/version").exists():
        return None
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return "an NVIDIA GPU that does not answer"
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else None

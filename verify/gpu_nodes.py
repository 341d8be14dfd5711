"""What a process that computes on an NVIDIA GPU opens, and whether there is one to open."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

from verify import landlock
from verify.landlock import Right

FOR_CPU: Final = "+cpu"
"""The local version of torch's builds for the CPU alone."""

_CONTROL: Final = Path("/dev/nvidiactl")
_UNIFIED: Final = Path("/dev/nvidia-uvm")
_WINDOWS: Final = Path("/dev/dxg")  # of any GPU; NVIDIA's has a CUDA library beside it
_WINDOWS_LIBRARIES: Final = Path("/usr/lib/wsl")

# What libcuda reads, see https://github.com/nolabs-ai/nono/pull/673 and
# https://github.com/NVIDIA/OpenShell/pull/710. A GPU hangs on any bus: /sys/bus has links.
_READ: Final = (
    *("/proc/driver", "/proc/devices", "/proc/modules"),
    *("/sys/bus/pci", "/sys/module/nvidia", "/sys/module/nvidia_uvm"),
)
_BUSES: Final = Path("/sys/devices")
_THREADS: Final = landlock.READ | Right.WRITE_FILE | Right.TRUNCATE


@functools.cache
def in_use() -> bool:
    """Return whether this lab computes on a GPU of NVIDIA's, without asking its driver."""
    if torch_is_for_cpu():
        return False
    if _CONTROL.exists():
        return True
    return _WINDOWS.exists() and any(_WINDOWS_LIBRARIES.rglob("libcuda.so*"))


def torch_is_for_cpu() -> bool:
    """Return whether the torch that is installed computes on the CPU alone, or is none at all."""
    try:
        version: str | None = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return True
    return (version or "").endswith(FOR_CPU)


def reachable() -> dict[str, Right]:
    """Return what a process may do with files beyond others, to compute on the GPU.

    Drivers from R570 on name their threads by writing to ``comm`` of each, and CUDA does not start
    where they may not.
    """
    if not in_use():
        return {}
    return {
        **dict.fromkeys(_READ, landlock.READ),
        **dict.fromkeys(map(str, _BUSES.glob("pci*")), landlock.READ),
        **dict.fromkeys(map(str, _nodes()), landlock.USE),
        "/proc/self/task": _THREADS,
    }


def groups() -> list[int]:
    """Return the groups without which the nodes cannot be opened: none, where all may."""
    if not in_use():
        return []
    closed = (it.stat() for it in _nodes())
    return sorted({it.st_gid for it in closed if not it.st_mode & (stat.S_IROTH | stat.S_IWOTH)})


def make_unified() -> None:
    """Have the node of unified memory made, which the first program that uses CUDA makes.

    By a set-uid program, so a process without new privileges cannot, and CUDA fails with error 999.
    """
    tool = shutil.which("nvidia-modprobe")
    if tool is None or not _CONTROL.exists() or _UNIFIED.exists():
        return
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run([tool, "-u", "-c", "0"], timeout=10, check=False, capture_output=True)  # noqa: S603


def first_visible() -> str | None:
    """Return what CUDA counts as its first GPU: a number or an id; None where it is to see none.

    https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars
    """
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return "0"
    first = told.split(",")[0].strip()
    return None if first in ("", "-1") else first


def _nodes() -> list[Path]:
    return [*Path("/dev").glob("nvidia*"), *([_WINDOWS] if _WINDOWS.exists() else [])]

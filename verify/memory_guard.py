"""Keeps a job from taking the machine down: a floor under what is free, before and while it runs.

On unified memory (DGX Spark) neither a container's limit nor an address space limit sees what CUDA
allocates, so the only number that tells is the kernel's own: MemAvailable. On a card with memory of
its own that card's is asked too, of the driver's library, which initialises nothing on it.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
from pathlib import Path
from typing import Any, Final

from verify import gpu_nodes

GIB: Final = 1024**3
SETTING: Final = "LAB_MEMORY_FLOOR_GIB"
"""An operator's own floor; it may be a fraction."""

_SHARE: Final = 0.02  # of all memory, for large machines: the page cache must have room to shrink
GPU_FLOOR: Final = GIB // 2
"""Of a GPU's own memory: a CUDA context and a small model."""


@dataclasses.dataclass(frozen=True)
class Shortage:
    """Less is free than the floor.

    Attributes:
        free: How many bytes are.
        floor: How many must be.
        source: Who says so.
    """

    free: int
    floor: int
    source: str

    def __str__(self) -> str:
        return (
            f"only {self.free / GIB:.2f} GiB are free by {self.source}, and "
            f"{self.floor / GIB:.2f} GiB must be"
        )


def shortage(meminfo: Path = Path("/proc/meminfo")) -> Shortage | None:
    """Return what main memory is short of, or None; some microseconds."""
    rows = dict(row.split(":", 1) for row in meminfo.read_text("ascii").splitlines())
    free, whole = (int(rows[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    floor = least(whole)
    return Shortage(free, floor, "MemAvailable in /proc/meminfo") if free < floor else None


def gpu_shortage() -> Shortage | None:
    """Return what the first GPU's own memory is short of; None where it has none of its own."""
    if not gpu_nodes.in_use():
        return None
    free = gpu_free(_driver_library(), gpu_nodes.first_visible())
    if free is None or free >= GPU_FLOOR:
        return None
    return Shortage(free, GPU_FLOOR, "the NVIDIA driver")


def gpu_free(nvml: Any, which: str | None) -> int | None:
    """Return the free bytes of a GPU, or None: no GPU, or its memory is the machine's.

    Args:
        nvml: The driver's management library (https://docs.nvidia.com/deploy/nvml-api), or None.
        which: Its number, or its id; None: there is none.
    """
    if nvml is None or which is None or nvml.nvmlInit_v2() != 0:
        return None
    device, told = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()  # total, free, used
    try:
        if which.isdecimal():
            found = nvml.nvmlDeviceGetHandleByIndex_v2(int(which), ctypes.byref(device))
        else:
            found = nvml.nvmlDeviceGetHandleByUUID(which.encode(), ctypes.byref(device))
        if found != 0:
            return None
        if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(told)) != 0:
            return None  # GB10 answers "not supported": there is only MemAvailable
        return int(told[1])
    finally:
        nvml.nvmlShutdown()


def least(whole: int) -> int:
    """Return the floor for a machine with ``whole`` bytes of memory, or the operator's own."""
    try:
        return int(float(os.environ[SETTING]) * GIB)
    except (KeyError, ValueError, OverflowError):
        return max(GIB, int(_SHARE * whole))


@functools.cache
def _driver_library() -> Any:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    # Once more than it is ended: where nothing keeps the driver awake, a beginning takes seconds.
    library.nvmlInit_v2()
    return library

"""How much memory the labs need to be free, and what the machine does when it runs short."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from verify.control_groups import PROC
from verify.machine import Advice, Fault
from verify.room import GIB, Free, gpu_memory, main_memory, meminfo
from verify.trial import NotRun

__all__ = ["FLOOR", "Free", "gpu_memory", "main_memory", "require", "require_free_pages", "swap"]

# A judgement, not a measurement: the labs' models are small, and a job shares the runner's loaded
# libraries; but with less than this a machine swaps, or ends a process, at the first batch.
FLOOR: Final = 2 * GIB
_SWAPPED: Final = 0.1  # of main memory: so much of what programs use lies on the disk
_FREE_PAGES: Final = 8 * GIB


def require(found: Free) -> str:
    """Return how much is free and who says so; raise `Fault` if it is less than `FLOOR`."""
    told = f"{found.bytes / GIB:.1f} GiB free by {found.source}"
    if found.bytes < FLOOR:
        needed = f"the labs need {FLOOR / GIB:.0f} GiB"
        raise Fault(f"{told}; {needed}.", found.cause, found.type_this)
    return told


def swap(proc: Path = PROC) -> str:
    """Return how much is swapped out; raise `Advice` if that is a good part of main memory."""
    rows = meminfo(proc)
    total = rows.get("SwapTotal", 0)
    used = total - rows.get("SwapFree", 0)
    if not total:
        return "there is no swap"
    told = f"{used / GIB:.1f} of {total / GIB:.1f} GiB of swap used"
    if used > _SWAPPED * rows["MemTotal"]:
        raise Advice(
            f"{told}: what programs read next may come from the disk.",
            "memory was short, and is or was full of other programs",
            "ps -eo rss,pid,args --sort=-rss | head"
            "  # end what is not needed; then: sudo swapoff -a && sudo swapon -a",
        )
    return told


def require_free_pages(proc: Path = PROC) -> str:
    """Return how much of a unified memory is free at once; raise `Advice` if the cache has it.

    CUDA takes free pages there, and does not wait for the page cache to give some back, so that an
    allocation may fail with much "available":
    https://docs.nvidia.com/dgx/dgx-spark/known-issues.html

    Raises:
        NotRun: the GPU has a memory of its own.
    """
    if not torch.cuda.get_device_properties(0).is_integrated:
        raise NotRun("the GPU has a memory of its own")
    rows = meminfo(proc)
    free, available = rows["MemFree"], rows["MemAvailable"]
    told = f"{free / GIB:.1f} GiB free at once, {available / GIB:.1f} GiB with the page cache's"
    if free < _FREE_PAGES <= available:
        raise Advice(
            f"{told}; CUDA does not wait for the cache to give its pages back.",
            "files that were read, a model's for one, fill the page cache",
            "sync && echo 3 | sudo tee /proc/sys/vm/drop_caches  # on the host; files stay",
        )
    return told

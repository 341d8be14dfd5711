"""How much memory is free, each kind by the source that is right for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from verify.control_groups import GROUPS, PROC, Group, groups

GIB: Final = 1024**3

_UNLIMITED: Final = 2**60  # cgroup v1 says "no limit" with a number near 2^63


@dataclasses.dataclass(frozen=True)
class Free:
    """So much is free.

    Attributes:
        bytes: How much.
        source: Who says so.
        cause: Why it may be too little.
        type_this: What shows or mends that.
    """

    bytes: int
    source: str
    cause: str
    type_this: str


def meminfo(proc: Path = PROC) -> dict[str, int]:
    """Return what /proc/meminfo says, in bytes but for counts of pages, by its names."""
    found = {}
    for row in (proc / "meminfo").read_text("ascii").splitlines():
        name, _, value = row.partition(":")
        number, _, unit = value.strip().partition(" ")
        found[name] = int(number) * (1024 if unit == "kB" else 1)
    return found


def machine_memory(proc: Path = PROC) -> Free:
    """Return what the kernel could still give to programs, whatever limits this one has.

    MemAvailable counts what the page cache would give back, MemFree does not
    (https://man7.org/linux/man-pages/man5/proc_meminfo.5.html).
    """
    return Free(
        meminfo(proc)["MemAvailable"],
        "MemAvailable in /proc/meminfo",
        "other programs hold the memory",
        "ps -eo rss,pid,args --sort=-rss | head",
    )


def main_memory(proc: Path = PROC, root: Path = GROUPS) -> Free:
    """Return what is free for this process: of the machine, or of its control group if less."""
    return min([machine_memory(proc), *_limits(proc, root)], key=lambda it: it.bytes)


def gpu_memory() -> Free:
    """Return what is free of the first GPU's memory.

    On a unified memory the driver's number is MemFree, without what the page cache would give back
    (measured: https://github.com/unslothai/unsloth/pull/10704), and NVML has none at all:
    MemAvailable counts there (https://docs.nvidia.com/dgx/dgx-spark/known-issues.html). A
    container's limit does not see what CUDA allocates, so it is not asked.
    """
    if torch.cuda.get_device_properties(0).is_integrated:
        return machine_memory()
    free, _ = torch.cuda.mem_get_info(0)
    return Free(
        free, "torch.cuda.mem_get_info", "other processes hold the GPU's memory", "nvidia-smi"
    )


def _limits(proc: Path, root: Path) -> Iterator[Free]:
    """Yield what each limit on this process' control groups leaves, of version 1 and 2.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory,
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
    """
    for group in groups("memory", proc, root):
        if (free := _left(group, *_FILES[group.version])) is not None:
            yield free


_FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def _left(group: Group, limit: str, usage: str, cache: str) -> Free | None:
    """Return what the limit of one group leaves: cache that nobody uses counts as free."""
    limited, used, rows = group.read(limit), group.read(usage), group.read("memory.stat")
    if limited is None or used is None or rows is None:  # no such group, or no limit at its top
        return None
    if limited == "max" or int(limited) > _UNLIMITED:
        return None
    unused = dict(row.split() for row in rows.splitlines()).get(cache, 0)
    return Free(
        max(int(limited) - int(used) + int(unused), 0),
        f"{limit} of the container or job",
        "what runs in the same container or job holds the memory, or its limit is small",
        "docker stats --no-stream  # on the host; compose.yaml has the limits",
    )

"""How much memory is free, each kind by the source that is right for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

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


def machine_memory(proc: Path = Path("/proc")) -> Free:
    """Return what the kernel could still give to programs, whatever limits this one has.

    MemAvailable counts what the page cache would give back, MemFree does not
    (https://man7.org/linux/man-pages/man5/proc_meminfo.5.html).
    """
    rows = dict(row.split(":", 1) for row in (proc / "meminfo").read_text("ascii").splitlines())
    return Free(
        int(rows["MemAvailable"].split()[0]) * 1024,
        "MemAvailable in /proc/meminfo",
        "other programs hold the memory",
        "ps -eo rss,pid,args --sort=-rss | head",
    )


def main_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> Free:
    """Return what is free for this process: of the machine, or of its control group if less."""
    return min([machine_memory(proc), *_limits(proc, groups)], key=lambda it: it.bytes)


def gpu_memory() -> Free:
    """Return what is free of the first GPU's memory.

    On a unified memory the driver's number leaves out what the page cache would give back, so it
    is too small, and NVML has none at all: MemAvailable is what counts there, see
    https://github.com/ggml-org/llama.cpp/pull/17368. A container's limit does not see what CUDA
    allocates, so it is not asked.
    """
    if torch.cuda.get_device_properties(0).is_integrated:
        return machine_memory()
    free, _ = torch.cuda.mem_get_info(0)
    return Free(
        free, "torch.cuda.mem_get_info", "other processes hold the GPU's memory", "nvidia-smi"
    )


def _limits(proc: Path, groups: Path) -> Iterator[Free]:
    """Yield what each limit on this process' control groups leaves, of version 1 and 2.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory,
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html. A group below another may be seen
    here as the root: inside a container it is, and the path that /proc tells is not there.
    """
    for line in (proc / "self" / "cgroup").read_text("ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            tops = [groups, groups / "unified"]
            names = "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            tops = [groups / "memory"]
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        for top in tops:
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(top) and (free := _left(folder, *names)) is not None:
                    yield free


def _left(folder: Path, limit: str, usage: str, cache: str) -> Free | None:
    """Return what the limit of one group leaves: cache that nobody uses counts as free."""
    try:
        limited = (folder / limit).read_text("ascii").strip()
        used = int((folder / usage).read_text("ascii"))
        rows = dict(row.split() for row in (folder / "memory.stat").read_text("ascii").splitlines())
    except OSError:  # no such group, or no limit at its top
        return None
    if limited == "max" or int(limited) > _UNLIMITED:
        return None
    return Free(
        max(int(limited) - used + int(rows.get(cache, 0)), 0),
        f"{limit} of the container or job",
        "what runs in the same container or job holds the memory, or its limit is small",
        "docker stats --no-stream  # on the host; compose.yaml has the limits",
    )

"""What this process may take of the machine: open files, locked memory, processes, cores."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

import torch

from verify.control_groups import GROUPS, PROC, groups
from verify.machine import Advice, Fault

# A sealed exercise is given 512 (verify/sealing.py), and no process gets more than its limit;
# a DataLoader with workers takes some hundred, and containerd's default is 1024.
FILES_FLOOR, FILES_ENOUGH = 512, 1024
# Processes and threads: one job may have 128 (verify/sealing.py).
PROCESSES_FLOOR, PROCESSES_ENOUGH = 32, 128
# What NVIDIA starts its images with is no limit at all; RDMA and pinned buffers count against it.
# https://docs.nvidia.com/deeplearning/frameworks/user-guide/
LOCKED_ENOUGH = 64 * 2**20
CORES_ENOUGH = 2


def open_files() -> str:
    """Return how many files may be open; raise `Fault` below the floor, `Advice` if few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES_ENOUGH:
        return "any number" if soft == resource.RLIM_INFINITY else f"{soft} files"
    kind = Fault if soft < FILES_FLOOR else Advice
    fixed = hard != resource.RLIM_INFINITY and hard < FILES_ENOUGH and os.geteuid() != 0
    at_most = ", and may not ask for more" if fixed else ""
    raise kind(
        f"The runner may have {soft} files open{at_most}; "
        f"the labs need {FILES_FLOOR}, and DataLoaders {FILES_ENOUGH}.",
        "the limit (ulimit -n) is low in the shell, service or container that it was started from",
        ("sudo prlimit --pid $$ --nofile=8192:8192" if fixed else "ulimit -n 8192")
        + " && invoke lab.down && invoke lab.up  # a container: docker run --ulimit nofile=8192, "
        "or ulimits: in compose.yaml; a service: LimitNOFILE=",
    )


def locked_memory() -> str:
    """Return how much memory may be locked; raise `Advice` if little for several GPUs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY:
        return "any amount"
    if soft >= LOCKED_ENOUGH or torch.cuda.device_count() < 2:
        return f"{soft // 2**10} KiB"
    raise Advice(
        f"Only {soft // 2**10} KiB of memory may be locked.",
        "the limit (ulimit -l) is low; GPUs that exchange data need more",
        "ulimit -l unlimited  # a container: docker run --ulimit memlock=-1",
    )


def processes(proc: Path = PROC, root: Path = GROUPS) -> str:
    """Return how many more processes there may be; raise `Fault` or `Advice` if few."""
    left, source = min(_processes_left(proc, root), default=(math.inf, ""))
    if left >= PROCESSES_ENOUGH:
        return f"{left:.0f} more, by {source}" if source else "any number more"
    raise (Fault if left < PROCESSES_FLOOR else Advice)(
        f"Only {left:.0f} more processes and threads may start, by {source}; "
        f"a job may have {PROCESSES_ENOUGH}.",
        "the container's or job's limit is low, or something in it has started many",
        "ps -eLf | wc -l  # a container: docker run --pids-limit, pids_limit: in compose.yaml",
    )


def cores(proc: Path = PROC, root: Path = GROUPS) -> str:
    """Return how many cores this process may use; raise `Advice` if few, or less than it sees."""
    seen = len(os.sched_getaffinity(0))
    quota = min(_quotas(proc, root), default=math.inf)
    if quota < seen / 2:
        raise Advice(
            f"{seen} cores are to be seen, and the time of {quota:.3g} may be used.",
            "a control group limits the time; libraries that start a thread for each core they see "
            "wait for one another",
            f"export OMP_NUM_THREADS={max(int(quota), 1)}  # or a larger limit: docker run --cpus",
        )
    if min(seen, quota) < CORES_ENOUGH:
        raise Advice(
            "There is one core: judging, JupyterLab and training wait for one another.",
            "the virtual machine, the job or the container was given one",
            "nproc  # Slurm: --cpus-per-task=2; a container: docker run --cpus=2",
        )
    whole = os.cpu_count() or seen
    return f"{seen} cores" if seen == whole else f"{seen} of {whole} cores"


def _processes_left(proc: Path, root: Path) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    for group in groups("pids", proc, root):
        limit, now = group.read("pids.max"), group.read("pids.current")
        if limit and now and limit != "max":
            found.append((float(int(limit) - int(now)), "pids.max of the container or job"))
    return found


def _quotas(proc: Path, root: Path) -> list[float]:
    """Return the cores' worth of time that each group above this process may use."""
    found = []
    for group in groups("cpu", proc, root):
        if group.version == 2:
            quota, _, period = (group.read("cpu.max") or "max").partition(" ")
        else:
            quota = group.read("cpu.cfs_quota_us") or "-1"
            period = group.read("cpu.cfs_period_us") or ""
        if quota not in ("max", "-1") and period:
            found.append(int(quota) / int(period))
    return found

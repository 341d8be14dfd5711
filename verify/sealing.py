"""What the learner's process may do: set once, in the child, before any of its code is read.

A process group and session of its own, limits on time, memory, files and processes, a new
allow-listed environment, no inherited descriptors, no new privileges, no capability; a user of its
own where the runner was started as root; a file wall (`verify.landlock`) and a system call filter
(`verify.seccomp`) where the kernel has them. `verify.walls` says what stands on this machine.

What that does not cover: a hole in the kernel or in a GPU's driver, and how long things take.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Final

from verify import gpu_nodes, landlock, privileges, seccomp
from verify.labs import Limits
from verify.landlock import Right
from verify.scratch import SHARED_MEMORY

CHANNEL_FD: Final = 3

_OPEN_FILES: Final = 512
PROCESSES: Final = 128  # of one job; torch has a thread for each core, a DataLoader its workers
_PACKAGE: Final = str(Path(__file__).parent)

PASSED_ON: Final = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    # What an image pins, and what may undo it: it counts in a job as it does in JupyterLab.
    *("ACCELERATE_MIXED_PRECISION", "LAB_DTYPE", "LAB_ATTENTION"),
    # Where NVIDIA's images keep what Triton compiles with, which is not in their Triton.
    *("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH", "TRITON_CUOBJDUMP_PATH"),
    *("TRITON_NVDISASM_PATH", "TRITON_CUDACRT_PATH", "TRITON_CUDART_PATH", "TRITON_CUPTI_PATH"),
    *("CPATH", "C_INCLUDE_PATH"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "BNB_CUDA_VERSION"),
)
"""Variables of the runner's environment that the zygote and so every job may see: no secrets."""

FIXED: Final = {
    "OMP_NUM_THREADS": "1",  # a forked child of a process with OpenMP threads hangs
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow would start a thread
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # ask for a GPU without initialising CUDA
    "HF_HOME": "hf",  # libraries read it once, in the zygote: below each job's own folder
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclasses.dataclass(frozen=True)
class Seal:
    """How one learner process is sealed.

    Attributes:
        directory: Its working, home and temporary directory; it makes that itself, because a
            runner that is root without further rights could not give one away.
        uid: The user and group to become, or None to stay what the runner is.
        parent: The process whose death must be its death.
        limits: What the job may take.
        processes: How many its user may have, itself and all threads included, or None: any.
        address_space: Whether memory is limited by address space; CUDA cannot live under that.
        files: Whether to put up the file wall.
        system_calls: Whether to filter system calls.
    """

    directory: str
    uid: int | None
    parent: int
    limits: Limits
    processes: int | None
    address_space: bool
    files: bool
    system_calls: bool


def close(seal: Seal, channel: int, output: int) -> None:
    """Seal the calling process. Afterwards it has descriptors 0 to 3 only, 3 being the channel.

    Raises:
        OSError: a wall could not be set up; the caller must not go on.
    """
    os.setsid()
    privileges.show_memory()  # forked from a hidden process; its own /proc/self it may have
    _descriptors(channel, output)
    _environment(seal.directory)
    Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    _limits(seal)
    if seal.uid is not None:
        os.setgroups(gpu_nodes.groups())
        os.setresgid(seal.uid, seal.uid, seal.uid)
        os.setresuid(seal.uid, seal.uid, seal.uid)
        privileges.show_memory()  # a changed user takes its own /proc/self away
    privileges.set_no_new_privileges()  # before the next line: no program gives anything back
    privileges.drop_capabilities()
    privileges.die_with(seal.parent)
    os.umask(0o077)
    with contextlib.suppress(FileExistsError):  # an earlier process of this job has made it
        Path(seal.directory).mkdir()
    os.chdir(seal.directory)
    if seal.files:
        landlock.restrict(reachable(seal.directory))
    if seal.system_calls:
        seccomp.install()


def reachable(directory: str) -> dict[str, Right]:
    """Return all that a learner's process may do with files; no lab and no key is among them.

    Python, the libraries, the judge's public code, what the C library, torch and a GPU's driver
    look at, and ``directory``, which is the job's own.
    """
    return {
        **dict.fromkeys(("/usr", "/lib", "/lib64", "/bin"), landlock.RUN),
        **dict.fromkeys((sys.prefix, sys.base_prefix), landlock.RUN),
        _PACKAGE: landlock.READ,
        **dict.fromkeys(_READ, landlock.READ),
        **dict.fromkeys(_DEVICES, landlock.USE),
        **gpu_nodes.reachable(),
        SHARED_MEMORY: landlock.SHARE,  # semaphores and batches of a DataLoader's workers
        directory: landlock.OWN,
    }


_READ: Final = (
    *("/etc/ld.so.cache", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime"),
    *("/etc/alternatives", "/etc/host.conf", "/etc/mime.types"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg"),
    *("/proc/version", "/proc/filesystems", "/proc/sys/vm", "/proc/sys/kernel/osrelease"),
    *("/sys/devices/system", "/sys/fs/cgroup"),
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def clean_environment() -> dict[str, str]:
    """Return the environment that the zygote is started with."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"LANG": "C.UTF-8", **kept, **FIXED}


def _descriptors(channel: int, output: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    high = os.dup(channel), os.dup(output), os.dup(nothing)  # above what is overwritten next
    for source, target in zip((high[2], high[1], high[1], high[0]), range(4), strict=True):
        os.dup2(source, target)
    os.closerange(CHANNEL_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _environment(directory: str) -> None:
    home = {"HOME": directory, "TMPDIR": directory, "USER": "learner", "LOGNAME": "learner"}
    kept = {name: value for name, value in os.environ.items() if name in (*PASSED_ON, *FIXED)}
    os.environ.clear()
    os.environ.update(kept | home | {"HF_HOME": f"{directory}/hf"})
    tempfile.tempdir = None  # the zygote's imports have settled on another


def _limits(seal: Seal) -> None:
    limits = seal.limits
    cpu = int(limits.seconds) + 5
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if seal.address_space:
        space = _mapped() + limits.memory_bytes  # what the libraries map is not the exercise's
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    if seal.processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (seal.processes, seal.processes))


def _mapped() -> int:
    """Return the bytes of address space that this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    return pages * resource.getpagesize()

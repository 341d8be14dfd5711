"""What the learner's process may do: set once, in the child, before any of its code is read.

This is the seam for the whole sealing. What stands today: a process group and session of its own,
limits on time, memory, files and processes, a new allow-listed environment, no inherited
descriptors, no new privileges, and a user of its own when the runner was started as root. What
does not stand yet: a file system wall (Landlock) and a system call filter (seccomp), so the level
is ``partial``: learner code can still read what its user may read, open sockets, and, where it has
no user of its own, send signals to the runner. It cannot read the memory of judge or runner.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import resource
import secrets
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import Final

from verify.labs import Limits

LEARNER_UIDS: Final = range(59_000, 59_064)  # no passwd entries; each runner takes one
CONTAINER_UIDS: Final = range(59_064, 59_128)  # of the runners inside an image
LEVEL: Final = "partial"
CHANNEL_FD: Final = 3

_CAPABILITY_VERSION_3: Final = 0x20080522
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_CHILD_SUBREAPER: Final = 36
_OPEN_FILES: Final = 512
_PROCESSES: Final = 128

PASSED_ON: Final = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    # What an image pins, and what may undo it: it counts in a job as it does in JupyterLab.
    *("ACCELERATE_MIXED_PRECISION", "LAB_DTYPE", "LAB_ATTENTION", "TRITON_PTXAS_BLACKWELL_PATH"),
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
        supervisor: The process whose death must be its death.
        limits: What the job may take.
        address_space: Whether memory is limited by address space; CUDA cannot live under that.
    """

    directory: str
    uid: int | None
    supervisor: int
    limits: Limits
    address_space: bool


def close(seal: Seal, channel: int, output: int) -> None:
    """Seal the calling process. Afterwards it has descriptors 0 to 3 only, 3 being the channel.

    Raises:
        OSError: a wall could not be set up; the caller must not go on.
    """
    os.setsid()
    prctl(_PR_SET_DUMPABLE, 1)  # forked from a hidden process; its own /proc/self it may have
    _descriptors(channel, output)
    _environment(seal.directory)
    Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    _limits(seal)
    if seal.uid is not None:
        os.setgroups([])
        os.setresgid(seal.uid, seal.uid, seal.uid)
        os.setresuid(seal.uid, seal.uid, seal.uid)
        prctl(_PR_SET_DUMPABLE, 1)  # a changed user takes its own /proc/self away
    prctl(_PR_SET_NO_NEW_PRIVS, 1)  # before the next line: no program gives anything back
    drop_capabilities()
    die_with(seal.supervisor)
    os.umask(0o077)
    with contextlib.suppress(FileExistsError):  # an earlier process of this job has made it
        Path(seal.directory).mkdir()
    os.chdir(seal.directory)


def walls(uid: int | None) -> list[str]:
    """Return the names of the walls that `close` puts up."""
    user = ["user"] if uid is not None else []
    return ["process", "limits", "environment", "descriptors", "no-new-privileges", *user]


@dataclasses.dataclass(frozen=True)
class LearnerUser:
    """Who learner code runs as.

    Attributes:
        uid: A user that no other runner's learners have, or None: the runner's own.
        reason: Why it is the runner's own.
        claim: Holds the uid for as long as it is open.
    """

    uid: int | None
    reason: str = ""
    claim: socket.socket | None = None


def claim_user() -> LearnerUser:
    """Claim a user for this runner's learners, and end what an earlier holder left running."""
    if os.geteuid() != 0:
        return LearnerUser(None, "the runner was not started as root")
    for prefix in (sys.base_prefix, sys.prefix):
        for folder in (Path(prefix), *Path(prefix).parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                return LearnerUser(None, f"other users cannot reach {prefix} through {folder}")
    for uid in _uids():
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:  # an abstract name: nobody can hold it twice, and it goes with its holder
            claim.bind(f"\0verify-learner-{uid}")
        except OSError:
            claim.close()
            continue
        end_all_of(uid)
        return LearnerUser(uid, claim=claim)
    return LearnerUser(None, "every learner user is taken by another runner")


def _uids() -> list[int]:
    """Return the users to choose from, in the order in which to try them.

    The kernel counts a user's processes over all containers, but a container sees no other's
    claims: there any order is as good, and the chance that two take the same one is small.
    """
    if not (Path(__file__).parents[1] / "manifest.json").exists():
        return list(LEARNER_UIDS)
    return secrets.SystemRandom().sample(CONTAINER_UIDS, len(CONTAINER_UIDS))


def end_all_of(uid: int) -> None:
    """Kill every process of ``uid``."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid == uid:
                os.kill(int(entry.name), signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    """Return the environment that the zygote is started with."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"LANG": "C.UTF-8", **kept, **FIXED}


def drop_capabilities() -> None:
    """Give up every capability; where a learner had to stay root, it is root in name alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def hide_memory() -> None:
    """Take this process's memory, environment and descriptors out of its own user's reach."""
    prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have this process killed when ``parent`` ends, also if that happened a moment ago."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def prctl(option: int, argument: int) -> None:
    """Set one property of this process, see man 2 prctl; raise `OSError` if that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {argument})")


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
    if seal.uid is not None:  # counted per user: as the runner's user it would count the host's
        resource.setrlimit(resource.RLIMIT_NPROC, (_PROCESSES, _PROCESSES))


def _mapped() -> int:
    """Return the bytes of address space that this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    return pages * resource.getpagesize()

"""The process that looks at this node: its events as they come, and its end, whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Generator, Iterator
from typing import IO, Any, Final

from verify import client
from verify.lab import damage
from verify.lab.layout import Layout
from verify.lab.problems import Problem

_SECONDS: Final = 40.0
"""Then it is ended: a GPU that hangs answers nothing. With what the host's half takes at most it
stays below the 60 s after which Slurm ends a health check, and drains nothing."""
_ENDS: Final = 2.0  # seconds that it is given to be gone
_EARLY: Final = "The checks ended early"
_KNOWN: Final = (
    (
        "PermissionError",
        "The checks may not be read by you",
        "they hold the labs' keys, which are for root alone, or are another user's",
        "the same as root, or as the user who made the lab",
    ),
    (
        "failed to map segment",
        _EARLY,
        "the lab's environment is on a file system mounted with noexec",
        "findmnt -T .lab  # then mount it with exec, or move the project",
    ),
    (
        "No usable temporary directory",
        _EARLY,
        "no folder for temporary files can be written",
        "df -h /tmp; findmnt -T /tmp  # mount one there, or set TMPDIR to a folder on another disk",
    ),
    (
        "Resource temporarily unavailable",
        _EARLY,
        "this user may start no more processes or threads",
        "ulimit -u; ps -eLf | wc -l",
    ),
)
"""Words of an end, what it means, its cause and what to type."""
_MODULE: Final = "verify.node_checks"


def events(layout: Layout, *, workload: bool) -> Generator[dict[str, Any]]:
    """Yield the events of a process that looks at this node; close it, and the process ends.

    Args:
        layout: Where the lab is, and the interpreter to look with.
        workload: Whether to compute on the GPU.

    Raises:
        Problem: there is no environment to look from, or it did not answer in time.
    """
    deadline = time.monotonic() + _SECONDS
    doing = "the libraries"
    with os.fdopen(os.memfd_create("errors"), "w+b") as errors:  # there may be no folder for it
        process = subprocess.Popen(  # noqa: S603 - the lab's own interpreter and our module
            _command(layout, workload=workload),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            assert process.stdout is not None
            for line in _lines(process.stdout, deadline):
                event = _event(line)
                if event is None:
                    continue
                doing = event.get("check", doing)
                yield event
            process.wait(max(deadline - time.monotonic(), 0))
        except (TimeoutError, subprocess.TimeoutExpired) as slow:
            raise _hung(doing) from slow
        finally:
            _end(process)
        if process.returncode:
            raise _ended(process.returncode, errors, layout)


def _lines(stream: IO[bytes], deadline: float) -> Iterator[bytes]:
    """Yield whole lines as they come; raise `TimeoutError` when the time is up."""
    rest = b""
    while True:
        if not select.select([stream], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise TimeoutError
        came = os.read(stream.fileno(), 1 << 16)
        if not came:
            return
        *lines, rest = (rest + came).split(b"\n")
        yield from lines


def _event(line: bytes) -> dict[str, Any] | None:
    """Return the event in a line; None for what was printed before that could be kept from it."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "event" in told else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it; one that waits for a device may outlive even that, and is not waited for."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDS)
    assert process.stdout is not None
    process.stdout.close()


def _command(layout: Layout, *, workload: bool) -> list[str]:
    python = client.interpreter(layout.python) if layout.holds_keys else None
    if python is None:
        raise Problem(
            "There is no environment of the lab to look from.",
            cause="the local one was not made, or this is JupyterLab's container",
            type_this="docker compose run --rm verifier invoke node.check  # on the host; "
            "or without Docker: invoke lab.up --runtime local",
        )
    command = [str(python), "-I", "-m", _MODULE, "--labs", str(layout.labs)]
    command += ["--parent", str(os.getpid())]
    return command + (["--gpu-workload"] if workload else [])


def _hung(doing: str) -> Problem:
    return Problem(
        f"The checks did not end within {_SECONDS:.0f} s; the last was of {doing}.",
        cause="a GPU or a disk does not answer",
        type_this="nvidia-smi; sudo dmesg | tail -50",
    )


def _ended(code: int, errors: IO[bytes], layout: Layout) -> Problem:
    errors.seek(0)
    told = errors.read().decode(errors="replace").strip().splitlines()
    last = told[-1] if told else str(code)
    for words, happened, cause, type_this in _KNOWN:
        if words in last:
            return Problem(f"{happened}: {last}", cause=cause, type_this=type_this)
    found = damage.find(layout)
    return Problem(
        f"{_EARLY}: {last}{f' ({found})' if found else ''}",
        cause="the lab's environment is not whole",
        type_this=damage.MEND,
    )

"""The process that jobs are forked from: the imports are paid for once, here.

It is exec'd with an allow-listed environment, has one thread, holds no secret and nothing of any
lab, and never initialises CUDA. It computes nothing: a parallel region in it would make every
forked child hang in its first one.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import select
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from verify import gpu_nodes, huge_pages, privileges
from verify.channel import Channel, Closed

OURS = ("verify.judge", "verify.keeper")
"""Not at the top: they import torch, and until `main` this process is not hidden."""

PRELOADED = (
    "torch",
    "transformers",
    "verify.tiny",  # the model families that scenes are made of
    "datasets",
)
WITHOUT_GPU_ONLY = ("peft",)
"""peft imports bitsandbytes, which asks for the device's capability and so initialises CUDA."""

_QUIET_MS: Final = 500  # without a request, before the zygote makes itself cheaper to fork


def main() -> None:
    """Import, then fork on demand until the supervisor is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--supervisor", type=int, required=True)
    options = parser.parse_args()
    privileges.hide_memory()  # judges are forked from here: who could write here would be one
    privileges.die_with(options.supervisor)
    control = Channel(socket.socket(fileno=options.control))
    preload()
    control.send({"ready": True})
    pages = huge_pages.collapse()
    with contextlib.suppress(Closed):
        while True:
            _use_quiet(control, pages)
            told, fds = control.receive_with_fds()
            assert isinstance(told, dict)
            check_forkable()
            pid = fork_orphan(control, told, fds)
            for fd in fds:
                os.close(fd)
            control.send({"pid": pid})


def preload() -> None:
    """Import what jobs need."""
    for name in (*OURS, *PRELOADED):
        importlib.import_module(name)
    # Torch is not asked: where NVML does not count (a part of a GPU, named by its id; no library)
    # it initialises CUDA to find out, and no child of this process could use it.
    if not gpu_nodes.in_use():
        for name in WITHOUT_GPU_ONLY:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, the shared pages


def _use_quiet(control: Channel, pages: Iterator[bool]) -> None:
    """Put large pages under what is here while nothing is asked; see `verify.huge_pages`.

    A runner of one job never comes to it, and a request waits for one page at most.
    """
    poller = select.poll()
    poller.register(control, select.POLLIN)
    patience = _QUIET_MS
    while not poller.poll(patience):
        if next(pages, None) is None:
            return
        patience = 0


def check_forkable() -> None:
    """Raise `RuntimeError` if a forked child could hang: more threads than one, or CUDA in use."""
    import torch  # noqa: PLC0415 - imported by then

    if (count := threads()) != 1:
        raise RuntimeError(f"the zygote has {count} threads; it may have one")
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError("CUDA is initialised in the zygote")


def threads() -> int:
    """Return how many threads this process has, those of libraries included."""
    return len(list(Path("/proc/self/task").iterdir()))


def fork_orphan(control: Channel, told: dict[str, Any], fds: list[int]) -> int:
    """Fork a child that the supervisor, as the nearest subreaper, becomes the parent of."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        between = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _wait_for_adoption(between, told["supervisor"])
            _run(control, told, fds)
        os.write(writer, child.to_bytes(8, "big"))
        os._exit(0)
    os.close(writer)
    os.waitpid(middle, 0)
    pid = int.from_bytes(os.read(reader, 8), "big")
    os.close(reader)
    return pid


def _wait_for_adoption(between: int, supervisor: int) -> None:
    """Wait until ``between`` has ended; end if its parent did, so that somebody else adopted us."""
    while (parent := os.getppid()) != supervisor:
        if parent != between:
            os._exit(1)
        os.sched_yield()


def _run(control: Channel, told: dict[str, Any], fds: list[int]) -> NoReturn:
    """Be a judge or a keeper; never return into the zygote's loop."""
    from verify import judge, keeper  # noqa: PLC0415 - in memory since `preload`

    status = 1
    try:
        control.close()
        role = judge if told["role"] == "judge" else keeper
        role.main(fds[0], told["supervisor"])
        status = 0
    except BaseException:  # noqa: BLE001 - it must not unwind into the zygote
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()

"""The process that jobs are forked from."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from tests.conftest import alive
from verify import zygote

NO_ADOPTION = """
from verify import zygote
from verify.channel import pair
print(zygote.fork_orphan(pair()[0], {"supervisor": 2**22 + 1, "role": "judge"}, []))
"""


def test_a_child_whose_supervisor_is_gone_ends() -> None:
    """Killed between the fork and the adoption, a runner must not leave a child waiting for it."""
    came = subprocess.run(
        [sys.executable, "-c", NO_ADOPTION], capture_output=True, text=True, timeout=60, check=True
    )
    pid = int(came.stdout)
    deadline = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_does_not_fork_with_a_second_thread() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="threads; it may have one"):
            zygote.check_forkable()
    finally:
        stop.set()
        thread.join()


def test_it_does_not_fork_with_cuda_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(zygote, "threads", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="CUDA is initialised"):
        zygote.check_forkable()

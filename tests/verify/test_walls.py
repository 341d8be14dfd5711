"""The walls around learner code, attacked: who has a user of its own, and who has not.

The attacks here only read and ask for permission; what signals, fills or forks is elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COURSES, PROJECT, Runner, as_root, descendants, running
from verify.sealing import FIXED, PASSED_ON
from verify.users import LEARNER_UIDS

SPY = '''
import ctypes, gc, os, sys

def family():
    """Its keeper and whoever has a number near it: judge and strangers. /proc cannot be listed."""
    return [pid for pid in range(os.getppid() - 6, os.getppid() + 6) if pid != os.getpid()]

def tried(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return "REACHED"

class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]

def read_memory(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(8)
    here = Iovec(ctypes.addressof(buffer), 8)
    there = Iovec(id(type), 8)  # mapped at the same place in every fork
    if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")

def trace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")

def other():
    return 7

def act(x):
'''

REACH = """    pids = {*family(), *PIDS}
    tries = {}
    for pid in pids:
        tries[pid, "mem"] = tried(lambda: open(f"/proc/{pid}/mem", "rb").close())
        for part in ("environ", "maps"):
            tries[pid, part] = tried(lambda: open(f"/proc/{pid}/{part}", "rb").read(1))
        tries[pid, "fd"] = tried(lambda: os.readlink(f"/proc/{pid}/fd/0"))
        tries[pid, "root"] = tried(lambda: os.listdir(f"/proc/{pid}/root/"))
        tries[pid, "readv"] = tried(lambda: read_memory(pid))
        tries[pid, "ptrace"] = tried(lambda: trace(pid))
    reached = [key for key, value in tries.items() if value == "REACHED"]
    raise ValueError(f"{len(pids)} seen, {len(tries)} tries, reached {reached}")
"""


@pytest.fixture(scope="module", params=["as root", "as root, without a user", "as a user"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """A runner started as root, whose learners have a user of their own, and one that was not."""
    if not as_root():
        pytest.skip("starting a runner as root and as another user needs root")
    folder = Path(tempfile.mkdtemp(prefix="walls-"))
    how: dict[str, Any] = {"env": {**os.environ, "HF_TOKEN": "sesame"}}
    if request.param == "as a user":
        how |= {"user": 58_000, "group": 58_000, "extra_groups": []}
        os.chown(folder, 58_000, 58_000)
    taken = []
    if request.param == "as root, without a user":
        for uid in LEARNER_UIDS:  # anybody may take these names
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with contextlib.suppress(OSError):
                claim.bind(f"\0verify-learner-{uid}")
            taken.append(claim)
    try:
        with running(COURSES / "outcomes", folder, **how) as started:
            yield started
    finally:
        shutil.rmtree(folder)
        for claim in taken:
            claim.close()


def told(runner: Runner, body: str) -> str:
    """Return what the learner's code found out: the message of the exception it raises."""
    return runner.verify("acts", SPY + body)["acts"].message


def reach(runner: Runner) -> str:
    """Return the attack on the memory of everybody: supervisor and zygote by their numbers."""
    assert runner.process is not None
    pids = [runner.process.pid, *descendants(runner.process.pid)]
    return REACH.replace("PIDS", str(pids))


def test_the_memory_of_judge_keeper_zygote_and_supervisor_is_out_of_reach(runner: Runner) -> None:
    message = told(runner, reach(runner))
    seen = re.search(r"(\d+) seen, (\d+) tries, reached \[\]", message)
    assert seen, message
    assert int(seen[1]) >= 11 + 2
    assert int(seen[2]) == 7 * int(seen[1])


def test_nothing_of_the_lab_is_in_the_learners_process(runner: Runner) -> None:
    """No check, solution or misconception is loaded, and no object of the judge's is reachable."""
    body = """    parts = sorted({"checks", "solution", "misconceptions"} & set(sys.modules))
    texts = [o for o in gc.get_objects() if isinstance(o, dict) and "unchanged" in o]
    kinds = ("Bench", "Trial", "Misconception")
    checks = [o for o in gc.get_objects() if type(o).__name__ in kinds]
    raise ValueError(f"loaded {parts}, found {texts}, {checks}")
"""
    assert "loaded [], found [], []" in told(runner, body)


def test_the_spy_would_report_what_it_reaches(runner: Runner) -> None:
    """The attack above proves something only if it succeeds where nothing is in its way."""
    body = REACH.replace("{*family(), *PIDS}", "[os.getpid()]")
    message = told(runner, body)
    assert all(part in message for part in ("'mem'", "'environ'", "'maps'", "'fd'"))


def test_its_environment_is_allow_listed(runner: Runner) -> None:
    body = """    memory = open("/proc/self/environ").read()
    raise ValueError(sorted(os.environ), "sesame" in memory, "sesame" in str(os.environ))
"""
    message = told(runner, body)
    allowed = {*PASSED_ON, *FIXED, "HOME", "TMPDIR", "USER", "LOGNAME"}
    assert set(re.findall(r"'([A-Z_]+)'", message)) <= allowed
    assert "], False, False)" in message


def test_it_inherits_no_descriptor_but_its_own_four(runner: Runner) -> None:
    body = "    raise ValueError(sorted(int(f) for f in os.listdir('/proc/self/fd'))[:-1])\n"
    assert "[0, 1, 2, 3]" in told(runner, body)


def test_it_gains_no_privilege_by_running_a_setuid_program(runner: Runner) -> None:
    body = """    lines = open("/proc/self/status").read().splitlines()
    raise ValueError([line for line in lines if line.startswith(("NoNewPrivs", "CapEff"))])
"""
    message = told(runner, body)
    assert "NoNewPrivs:\\t1" in message
    assert "CapEff:\\t0000000000000000" in message


def test_it_starts_in_a_directory_of_its_own_that_goes_with_the_job(runner: Runner) -> None:
    body = """    import tempfile
    open("here", "w").write("x")
    raise ValueError(os.getcwd(), os.environ["HOME"], tempfile.gettempdir())
"""
    message = told(runner, body)
    (directory,) = set(re.findall(r"'(/[^']+)'", message))
    assert not Path(directory).exists()


def test_a_name_of_the_hub_ends_in_what_the_library_says_of_being_offline(runner: Runner) -> None:
    body = """    from transformers import AutoConfig
    AutoConfig.from_pretrained("somebody/some-model")
"""
    message = told(runner, body)
    assert "somebody/some-model" in message
    assert "offline" in message or "cached" in message
    assert "PermissionError" not in message


def test_what_the_hub_library_keeps_goes_into_the_jobs_own_folder(runner: Runner) -> None:
    body = """    import huggingface_hub.constants as c, datasets.config as d
    places = [os.path.abspath(p) for p in (c.HF_HUB_CACHE, d.HF_DATASETS_CACHE)]
    raise ValueError([p.startswith(os.getcwd() + "/hf/") for p in places])
"""
    assert "[True, True]" in told(runner, body)


def test_two_jobs_draw_different_random_numbers(runner: Runner) -> None:
    body = "    import random, torch; raise ValueError(os.urandom(8).hex())\n"
    assert told(runner, body) != told(runner, body)


def test_nothing_is_ever_unpickled() -> None:
    """No module of ours uses a format that runs code when it is read."""
    forbidden = re.compile(r"\b(c?pickle|dill|cloudpickle|marshal|shelve|joblib)\b|torch\.load")
    for file in [*PROJECT.glob("verify/**/*.py"), *PROJECT.glob("labs/*/*.py")]:
        found = forbidden.search(file.read_text())
        assert not found, f"{file}: {found}"

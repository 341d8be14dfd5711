"""A job's keeper, in earnest: whatever its learners do or leave, they end with it and before it.

Each scene is played in name spaces of its own; a test looks at what it returns.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import alive
from tests.verify.spaces import alone
from verify.channel import Channel, pair
from verify.labs import Limits
from verify.learners import Terms

SCENE = b"def ask(exercise):\n    return exercise.answer()\n"
QUIET = "def answer():\n    return 1\n"
STOPS = "import os\ndef answer():\n    os.kill(os.getpid(), 19)\n"
EXITS = "import os\ndef answer():\n    os._exit(7)\n"
LEAVES = """
import os, time
def answer():
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        for _ in range(5):
            if os.fork() == 0:
                os.write(writer, os.getpid().to_bytes(4, "big"))
                while True:
                    time.sleep(1)
        os._exit(0)
    return [int.from_bytes(os.read(reader, 4), "big") for _ in range(5)]
"""
BREEDS = """
import os, time
def answer():
    if os.fork() == 0:
        while True:
            try:
                if os.fork() == 0:
                    time.sleep(0.01)
            except OSError:
                time.sleep(0.001)
    time.sleep(0.3)
    return 1
"""
WRITES = """
import os
def answer():
    for place in (os.getcwd(), "/dev/shm"):
        with open(place + "/file", "w") as file:
            file.write("x")
    return os.getcwd()
"""


class Supervisor:
    """The keeper's other side: asks it, and plays the judge with its learners."""

    def __init__(self, *, mounts: bool = False) -> None:
        from verify import keeper

        self.folder = tempfile.mkdtemp()
        self._terms = Terms(
            directory=f"{self.folder}/job",
            mounts=mounts,
            uid=None,
            limits=Limits(),
            processes=None,
            address_space=False,
            files=False,
            system_calls=False,
        )
        self.channel, theirs = pair()
        self.pid = os.fork()
        if self.pid == 0:
            self.channel.close()
            try:
                keeper.main(theirs.detach(), os.getppid())
            finally:
                os._exit(0)
        theirs.close()

    def ask(self, op: str, fds: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
        self.channel.send({"op": op, **more}, fds, 15)
        told = self.channel.receive(15)
        assert isinstance(told, dict)
        return told

    def start(self, exercise: str) -> tuple[int, Channel]:
        """Return a new learner that has read ``exercise`` and is asked for its answer."""
        judges, learners = socket.socketpair()
        output = os.open(os.devnull, os.O_WRONLY)
        with learners:
            seal = dataclasses.asdict(self._terms)
            pid = self.ask("start", (learners.fileno(), output), seal=seal)["pid"]
        os.close(output)
        channel = Channel(judges)
        channel.receive(20)
        functions = {"answer": "answer()"}
        channel.send({"exercise": exercise.encode(), "scene": SCENE, "functions": functions})
        assert channel.receive(20) == {"problem": None}
        channel.send({"scene": "ask", "inputs": {}, "seed": 1})
        return pid, channel

    def answer(self, channel: Channel) -> Any:
        told = channel.receive(20)
        assert isinstance(told, dict)
        return told["observation"]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ended(*pids: int) -> bool:
    """Tell whether all of these have ended within a while."""
    return _soon(lambda: not any(alive(pid) for pid in pids))


def _soon(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def a_learner_that_runs_and_is_killed() -> dict[str, Any]:
    it = Supervisor()
    pid, channel = it.start(QUIET)
    answer = it.answer(channel)
    child = parent_of(pid) == it.pid
    running = it.ask("wait", seconds=0.1)["status"]
    it.ask("kill")
    return {"answer": answer, "child": child, "running": running, **it.ask("wait", seconds=5.0)}


def test_a_learner_is_its_child_and_is_killed_when_asked() -> None:
    told = alone(a_learner_that_runs_and_is_killed)
    assert told == {"answer": 1, "child": True, "running": None, "status": signal.SIGKILL}


def learners_that_end_by_themselves() -> dict[str, Any]:
    it = Supervisor()
    statuses = []
    for exercise in (EXITS, QUIET):
        _, channel = it.start(exercise)
        if exercise == QUIET:
            it.answer(channel)
            channel.close()  # as the judge does when it is done
        statuses.append(it.ask("wait", seconds=10.0)["status"])
        it.ask("kill")  # of one that was reaped: its number may be another's by now
    return {"codes": [os.waitstatus_to_exitcode(status) for status in statuses]}


def test_one_that_ends_by_itself_is_told_with_its_status() -> None:
    assert alone(learners_that_end_by_themselves) == {"codes": [7, 0]}


def what_daemons_become() -> dict[str, Any]:
    it = Supervisor()
    learner, channel = it.start(LEAVES)
    left = it.answer(channel)
    adopted = _soon(lambda: all(parent_of(pid) == it.pid for pid in left))
    swept = it.ask("end")["swept"]
    dead = not any(alive(pid) for pid in (learner, *left))
    return {"left": len(left), "adopted": adopted, "swept": swept, "dead": dead}


def test_what_a_learner_leaves_comes_to_the_keeper_and_is_ended() -> None:
    told = alone(what_daemons_become)
    assert told == {"left": 5, "adopted": True, "swept": True, "dead": True}


def what_forks_without_end() -> dict[str, Any]:
    it = Supervisor()
    learner, _ = it.start(BREEDS)
    time.sleep(0.3)
    began = time.monotonic()
    swept = it.ask("end")["swept"]
    return {"swept": swept, "dead": ended(learner), "soon": time.monotonic() - began < 8}


def test_what_forks_faster_than_it_can_be_killed_is_ended() -> None:
    assert alone(what_forks_without_end) == {"swept": True, "dead": True, "soon": True}


def one_learner_after_another() -> dict[str, Any]:
    it = Supervisor()
    first, channel = it.start(LEAVES)
    left = it.answer(channel)
    second, channel = it.start(QUIET)
    dead = not any(alive(pid) for pid in (first, *left))
    return {"dead": dead, "answer": it.answer(channel), "alive": alive(second)}


def test_a_new_learner_comes_after_the_end_of_the_one_before_and_all_it_left() -> None:
    assert alone(one_learner_after_another) == {"dead": True, "answer": 1, "alive": True}


def a_supervisor_that_closes() -> dict[str, Any]:
    it = Supervisor()
    learner, channel = it.start(LEAVES)
    left = it.answer(channel)
    it.channel.close()
    os.waitpid(it.pid, 0)
    return {"dead": not any(alive(pid) for pid in (learner, *left))}


def test_when_the_supervisor_closes_all_have_ended_before_the_keeper_does() -> None:
    assert alone(a_supervisor_that_closes) == {"dead": True}


def a_supervisor_that_dies() -> dict[str, Any]:
    reader, writer = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        it = Supervisor()
        learner, _ = it.start(STOPS)
        it.channel.send({"op": "wait", "seconds": 60.0})  # it has no ear for the channel now
        os.write(writer, b"".join(pid.to_bytes(4, "big") for pid in (it.pid, learner)))
        os.kill(os.getpid(), signal.SIGKILL)
    pids = [int.from_bytes(os.read(reader, 4), "big") for _ in range(2)]
    os.waitpid(supervisor, 0)
    return {"dead": ended(*pids)}


def test_killed_supervisors_leave_neither_keeper_nor_learner() -> None:
    assert alone(a_supervisor_that_dies) == {"dead": True}


def a_keeper_with_room_of_its_own() -> dict[str, Any]:
    it = Supervisor(mounts=True)
    before = sorted(os.listdir("/dev/shm"))  # noqa: PTH208
    homes = []
    for _ in range(2):  # the second learner of a job has the first one's room
        _, channel = it.start(WRITES)
        homes.append(it.answer(channel))
    return {
        "homes": homes == [f"{it.folder}/job"] * 2,
        "seen": os.listdir(f"{it.folder}/job"),  # noqa: PTH208
        "shared": sorted(os.listdir("/dev/shm")) == before,  # noqa: PTH208
        "mounts": Path(f"/proc/{it.pid}/mounts").read_text().count(f"tmpfs {it.folder}/job "),
    }


def test_the_room_that_it_mounts_is_seen_by_its_learners_alone() -> None:
    told = alone(a_keeper_with_room_of_its_own)
    assert told == {"homes": True, "seen": [], "shared": True, "mounts": 1}

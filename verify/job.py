"""One job: a judge and a learner process beside each other, watched until every verdict is in."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from verify import gpu_nodes, memory_guard, scratch
from verify.channel import GONE, Channel, ChannelError, pair, refuse_descriptors
from verify.labs import Lab
from verify.learners import Keeper, Terms
from verify.leftovers import remove, remove_all_of, remove_shared_memory, shared_memory
from verify.machine import caches
from verify.memory_guard import Shortage
from verify.pids import threads_of
from verify.plain import Plain
from verify.processes import Family, ZygoteError, describe
from verify.results import CheckResult
from verify.sealing import PROCESSES
from verify.text import clean
from verify.users import in_image
from verify.walls import Walls

READ_OUTPUT: Final = 8 * 1024 * 1024  # more than that and the process is ended
_GRACE: Final = 30.0  # seconds the judge may need beyond the learner's limit
_WATCHES: Final = 0.25  # seconds from one look at the machine's memory to the next
_MAKE_ROOM: Final = (
    "Likely cause: other programs hold the memory. Type: ps -eo rss,args --sort=-rss"
)
_CAUSES: Final = frozenset({"crashed", "timeout", "protocol"})


@dataclasses.dataclass(frozen=True)
class Submission:
    """A learner's file, as it was frozen before any input was drawn.

    Attributes:
        exercise: The file's bytes, or None where ``trouble`` says why there are none.
        seed: What the inputs are drawn from.
    """

    exercise: bytes | None
    trouble: str | None
    seed: int

    @property
    def sha256(self) -> str | None:
        """The hash of the file."""
        return None if self.exercise is None else hashlib.sha256(self.exercise).hexdigest()


class Abandoned(Exception):
    """Nobody waits for the job any more: its client has gone."""


class JobError(Exception):
    """The job could not be judged: our fault or the environment's, never the learner's."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """A place in which one job at a time is judged.

    Attributes:
        uid: The user of its learners, or None: the runner's own.
        walls: The walls around them.
        folder: Where its jobs have their folders.
    """

    uid: int | None
    walls: Walls
    folder: Path


class Job:
    """Runs one submission for one lab. Events come out of `run` as they happen."""

    def __init__(self, family: Family, lab: Lab, submission: Submission, slot: Slot) -> None:
        self._family = family
        self._lab = lab
        self._submission = submission
        self._slot = slot
        name = f"verify-{os.getpid()}-{secrets.token_hex(8)}"
        self._directory = str(slot.folder / name)
        self._shared_memory = shared_memory()
        self._keeper: Keeper | None = None
        self._waiting: socket.socket | None = None
        self._short: Shortage | None = None
        self._full = False
        self._output = _Output(lab.limits.output_bytes)

    @property
    def output(self) -> bytes:
        """The first of what the exercise printed."""
        return self._output.kept

    def run(self, client: Channel, on_start: Callable[[str], None]) -> Iterator[CheckResult]:
        """Yield each check's result as it is decided; ``on_start`` is told each check's name.

        Raises:
            JobError: the judge did not finish.
            Abandoned: ``client`` has gone; what was decided before stands.
        """
        if short := memory_guard.shortage() or memory_guard.gpu_shortage():
            raise JobError(f"Nothing is judged now: {short}. {_MAKE_ROOM}")
        channel, theirs = pair()
        judge = None
        try:
            with theirs:
                judge = self._family.fork("judge", theirs)
            channel.send(
                {
                    "folder": str(self._lab.folder),
                    "seed": self._submission.seed,
                    "exercise": self._submission.exercise,
                    "trouble": self._submission.trouble,
                    "caches": dict(caches()),
                }
            )
            if self._lab.exercise and self._submission.exercise is not None:
                self._waiting = self._new_learner()  # while the judge reads the lab
            yield from self._watch(channel, client, on_start)
        except (ChannelError, JobError, ZygoteError) as error:
            self._family.renew()
            raise (
                error
                if isinstance(error, JobError)
                else JobError(f"a process of the runner ended early: {error}")
            ) from error
        finally:
            channel.close()
            if judge is not None:
                self._family.kill(judge)  # it ends while the learner does
            try:
                self._clear()
            finally:
                if judge is not None:
                    self._family.end(judge)

    def _watch(
        self, judge: Channel, client: Channel, on_start: Callable[[str], None]
    ) -> Iterator[CheckResult]:
        deadline = time.monotonic() + self._lab.limits.seconds + _GRACE
        while True:
            self._wait(judge, client, deadline)
            told = judge.receive(_GRACE)
            assert isinstance(told, dict)
            event = told["event"]
            if event == "started":
                on_start(str(told["check"]))
            elif event == "result":
                yield msgspec.convert(told["result"], CheckResult)
            elif event == "start":
                self._start_learner(judge)
            elif event == "end":
                judge.send(self._explain(str(told["cause"])))
            elif event == "broken":
                raise JobError(str(told["message"]))
            else:
                return

    def _wait(self, judge: Channel, client: Channel, deadline: float) -> None:
        """Return when the judge has something to say; read the learner's output meanwhile."""
        while True:
            poller = select.poll()
            poller.register(judge, select.POLLIN)
            poller.register(client, GONE)
            if self._output.reader >= 0:
                poller.register(self._output.reader, select.POLLIN)
            left = deadline - time.monotonic()
            if left <= 0:
                raise JobError("the judge did not finish in time")
            ready = {fd for fd, _ in poller.poll(min(left, _WATCHES) * 1000)}
            self._guard()
            if self._output.reader in ready and self._output.read():
                assert self._keeper is not None
                self._keeper.kill()
            if client.fileno() in ready:
                raise Abandoned
            if judge.fileno() in ready:
                return

    def _guard(self) -> None:
        """Kill the learner when the machine's memory falls under the floor, or its disk is full."""
        if self._keeper is None or self._short is not None or self._full:
            return
        self._short = memory_guard.shortage()
        self._full = not self._slot.walls.mounts and scratch.over(
            self._directory,
            self._lab.limits.disk_bytes,
            self._slot.uid,
            bounded=self._slot.folder in scratch.folders(),
        )
        if self._short is not None or self._full:
            self._keeper.kill()

    def _start_learner(self, judge: Channel) -> None:
        """Give the judge a learner's channel: of the one that waits, else of a new one."""
        waiting, self._waiting = self._waiting, None
        with waiting or self._new_learner() as channel:
            judge.send({}, [channel.fileno()])

    def _new_learner(self) -> socket.socket:
        """Start a learner and return the judge's end of its channel."""
        if self._keeper is None:
            self._keeper = Keeper(self._family, self._terms())
        judges, learners = socket.socketpair()
        with learners:
            refuse_descriptors(judges)
            writer = self._output.open()
            try:
                self._keeper.start(learners, writer)
            except BaseException:
                judges.close()
                raise
            finally:
                os.close(writer)
        return judges

    def _terms(self) -> Terms:
        return Terms(
            directory=self._directory,
            mounts=self._slot.walls.mounts,
            uid=self._slot.uid,
            limits=self._lab.limits,
            processes=_processes(self._slot.uid),
            address_space=not gpu_nodes.in_use(),
            files=bool(self._slot.walls.files),
            system_calls=self._slot.walls.system_calls,
        )

    def _explain(self, cause: str) -> dict[str, Plain]:
        """End the learner's process and return why it ended, as the judge's message needs it."""
        assert self._keeper is not None
        status = None if cause in ("timeout", "protocol") else self._keeper.wait(1.0)
        self._keeper.end()
        self._output.close()
        if self._output.overflowed:
            limit = READ_OUTPUT // 1024**2
            return {"cause": "output", "message": f"The process printed more than {limit} MiB."}
        if self._short is not None:
            message = f"The process was ended to save the machine: {self._short}."
            self._short = None
            return {"cause": "memory", "message": message}
        if self._full:
            self._full = False
            limit = self._lab.limits.disk_bytes // 1024**2
            return {
                "cause": "output",
                "message": f"The process wrote more than {limit} MiB of files.",
            }
        if status is None:
            return {"cause": cause if cause in _CAUSES else "protocol", "message": ""}
        if os.WIFSIGNALED(status):
            self._family.renew()
        found, message = describe(status)
        return {"cause": found, "message": message}

    def _clear(self) -> None:
        """End every process of the job and remove every file of it."""
        if self._waiting is not None:
            self._waiting.close()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            try:
                keeper.end()
            except ZygoteError:
                self._family.sweep()
            finally:
                keeper.close()
        self._output.close()
        remove(self._family, self._directory)
        if self._slot.uid is not None:
            remove_all_of(self._family, self._slot.uid)
        else:
            remove_shared_memory(self._shared_memory)


class _Output:
    """What the learners of a job print: the first of it is kept, too much ends the process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.kept = b""
        self.reader = -1
        self._received = 0
        self.overflowed = False

    def open(self) -> int:
        """Return a new pipe's end to write to."""
        self.close()
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._received, self.overflowed = 0, False
        return writer

    def read(self) -> bool:
        """Read what there is; return True once, when it has become too much."""
        try:
            part = os.read(self.reader, 65536)
        except BlockingIOError:
            return False
        self._received += len(part)
        self.kept += part[: max(self._limit - len(self.kept), 0)]
        if not part:
            os.close(self.reader)
            self.reader = -1
        first = self._received > READ_OUTPUT and not self.overflowed
        self.overflowed |= first
        return first

    def close(self) -> None:
        """Take what is left in the pipe, now that nobody writes to it, and close it."""
        while self.reader >= 0:
            before = self._received
            self.read()
            if self._received == before and self.reader >= 0:
                os.close(self.reader)
                self.reader = -1


def _processes(uid: int | None) -> int | None:
    """Return how many processes the learner's user may have.

    The kernel counts a user's over all containers, and root's not at all: so where learners share
    the runner's user inside a container, its own limit on processes has to do.
    """
    if uid is not None:
        return PROCESSES
    if os.geteuid() == 0 or in_image():
        return None
    return threads_of(os.geteuid()) + PROCESSES


def error_result(message: str) -> CheckResult:
    """Return the result that stands for a job that could not be judged."""
    return CheckResult(
        name="job",
        title="The verification itself works.",
        level="check",
        evidence="probe",
        status="error",
        message=clean(message, 2000),
    )

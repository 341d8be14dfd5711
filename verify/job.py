"""One job: a judge and a learner process beside each other, watched until every verdict is in."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from verify.channel import GONE, Channel, ChannelError, pair, refuse_descriptors
from verify.labs import Lab
from verify.machine import caches
from verify.plain import Plain
from verify.processes import Family, LearnerProcess, describe
from verify.results import CheckResult
from verify.text import clean

READ_OUTPUT: Final = 8 * 1024 * 1024  # more than that and the process is ended
_GRACE: Final = 30.0  # seconds the judge may need beyond the learner's limit
_SHARED: Final = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108
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


class Job:
    """Runs one submission for one lab. Events come out of `run` as they happen."""

    def __init__(self, family: Family, lab: Lab, submission: Submission, uid: int | None) -> None:
        self._family = family
        self._lab = lab
        self._submission = submission
        self._uid = uid
        self._learner: LearnerProcess | None = None
        self._directory = ""
        self.output = b""  # the first of what the exercise printed

    def run(self, client: Channel, on_start: Callable[[str], None]) -> Iterator[CheckResult]:
        """Yield each check's result as it is decided; ``on_start`` is told each check's name.

        Raises:
            JobError: the judge did not finish.
            Abandoned: ``client`` has gone; what was decided before stands.
        """
        name = f"verify-{os.getpid()}-{secrets.token_hex(8)}"
        self._directory = str(Path(tempfile.gettempdir(), name))
        channel, theirs = pair()
        judge = None
        try:
            with theirs:
                judge = self._family.fork("judge", [theirs.fileno()])
            channel.send(
                {
                    "folder": str(self._lab.folder),
                    "seed": self._submission.seed,
                    "exercise": self._submission.exercise,
                    "trouble": self._submission.trouble,
                    "caches": dict(caches()),
                }
            )
            yield from self._watch(channel, client, on_start)
        except ChannelError as error:
            raise JobError(f"the judge ended early: {error}") from error
        finally:
            channel.close()
            if judge is not None:
                self._family.end(judge)
            self._end_learner()
            remove(self._directory)
            if self._uid is not None:
                remove_all_of(self._uid)

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
            learner = self._learner
            if learner is not None and learner.output >= 0:
                poller.register(learner.output, select.POLLIN)
            left = deadline - time.monotonic()
            if left <= 0:
                raise JobError("the judge did not finish in time")
            ready = {fd for fd, _ in poller.poll(left * 1000)}
            if learner is not None and learner.output in ready:
                self._read(learner)
            if client.fileno() in ready:
                raise Abandoned
            if judge.fileno() in ready:
                return

    def _read(self, learner: LearnerProcess) -> None:
        with contextlib.suppress(BlockingIOError):
            part = os.read(learner.output, 65536)
            learner.received += len(part)
            kept = self._lab.limits.output_bytes - len(self.output)
            self.output += part[: max(kept, 0)]
            if not part:
                os.close(learner.output)
                learner.output = -1
            elif learner.received > READ_OUTPUT and learner.pid and not learner.overflowed:
                learner.overflowed = True
                self._family.kill(learner.pid)

    def _start_learner(self, judge: Channel) -> None:
        self._end_learner()
        judges, learners = socket.socketpair()
        refuse_descriptors(judges)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        with judges, learners:
            pid = self._family.fork("learner", [learners.fileno(), writer], **self._seal())
            os.close(writer)
            self._learner = LearnerProcess(pid, reader)
            judge.send({"pid": pid}, [judges.fileno()])

    def _seal(self) -> dict[str, Plain]:
        return {
            "directory": self._directory,
            "uid": self._uid,
            "limits": dataclasses.asdict(self._lab.limits),
            "address_space": not Path("/dev/nvidiactl").exists(),
        }

    def _explain(self, cause: str) -> dict[str, Plain]:
        """End the learner's process and return why it ended, as the judge's message needs it."""
        learner = self._learner
        assert learner is not None
        status = None if cause in ("timeout", "protocol") else self._family.ended(learner.pid, 1.0)
        if status is not None:
            learner.pid = 0
        overflowed = learner.overflowed
        self._end_learner()
        if overflowed:
            limit = READ_OUTPUT // 1024**2
            return {"cause": "output", "message": f"The process printed more than {limit} MiB."}
        if status is None:
            return {"cause": cause if cause in _CAUSES else "protocol", "message": ""}
        found, message = describe(status)
        return {"cause": found, "message": message}

    def _end_learner(self) -> None:
        learner, self._learner = self._learner, None
        if learner is None:
            return
        if learner.pid:
            self._family.end(learner.pid)
            learner.pid = 0
        self._family.sweep()
        while learner.output >= 0:  # what is left in the pipe, now that nobody writes to it
            before = learner.received
            self._read(learner)
            if learner.received == before and learner.output >= 0:
                os.close(learner.output)
                learner.output = -1


def remove_leftovers() -> None:
    """Remove the job directories of runners that were killed."""
    for directory in Path(tempfile.gettempdir()).glob("verify-*-*"):
        owner = directory.name.split("-")[1]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            remove(str(directory))


def remove(directory: str) -> None:
    """Remove a job's directory, however deep: `shutil.rmtree` recurses and ends in an error.

    Its owner does it: root in a container may not write in others' folders.
    """
    try:
        owner = os.lstat(directory).st_uid
    except FileNotFoundError:
        return
    user = owner if os.geteuid() == 0 else None
    # A folder closed to its owner would keep what is in it; a link is not followed.
    link = Path(directory).is_symlink()
    for command in ([] if link else [["chmod", "-R", "u+rwX"]]) + [["rm", "-rf"]]:
        subprocess.run(  # noqa: S603
            [*command, "--", directory],
            user=user,
            group=user,
            extra_groups=[] if user else None,
            stderr=subprocess.DEVNULL,
            check=False,
        )


def remove_all_of(uid: int) -> None:
    """Remove what ``uid`` left in the folders that everybody may write to.

    The next learner has the same user: nothing may wait there for it, or take its room.
    """
    for folder in _SHARED:
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    remove(entry.path)


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

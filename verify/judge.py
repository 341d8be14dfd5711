"""The judge's process: the truth lives here and nowhere else.

A trusted sibling of the learner's process, forked from the same empty zygote. It loads the lab,
draws the inputs, asks the learner through a channel of plain data, decides, and tells the
supervisor each verdict as it falls.
"""

from __future__ import annotations

import socket
import time
import traceback
from pathlib import Path
from typing import Any, Final

from verify import gpu_nodes
from verify.authoring import Check
from verify.channel import Channel, ChannelError, Closed, Silent
from verify.judging import Bench, Verdict, not_run, result, waits_for
from verify.labs import read_lab
from verify.machine import use_caches
from verify.plain import Plain
from verify.privileges import die_with, hide_memory
from verify.results import READING
from verify.scene import begin_anew
from verify.text import clean
from verify.trial import Failure

_SEALS: Final = 20.0  # seconds in which a process must be sealed
_READS: Final = 10.0  # in which it must have read the scene and the exercise
_READS_ON_GPU: Final = 60.0  # peft and bitsandbytes are read then, and CUDA begins


class Sealed:
    """The learner's process as the judge knows it: asked, replaced when it ended."""

    def __init__(self, supervisor: Channel, bench: Bench, exercise: bytes) -> None:
        self._supervisor = supervisor
        self._bench = bench
        self._exercise = exercise
        self._channel: Channel | None = None
        self._deadline = time.monotonic() + bench.lab.limits.seconds
        self.hung = False

    @property
    def time_left(self) -> float:
        """Seconds of the job's time that are left."""
        return self._deadline - time.monotonic()

    def start(self) -> str | None:
        """Have the exercise read in a new process; return what is wrong with the file, or None.

        Raises:
            ChannelError: the process could not be sealed, which is no fault of the exercise's:
                nothing of it has been read.
        """
        self._channel = Channel(socket.socket(fileno=self._ask_supervisor("start")))
        self._channel.receive(_SEALS)
        told: dict[str, Plain] = {
            "exercise": self._exercise,
            "scene": (self._bench.lab.folder / "scene.py").read_bytes(),
            "functions": dict(self._bench.lab.functions),
        }
        answer = self._exchange(told, _READS_ON_GPU if gpu_nodes.in_use() else _READS)
        if not isinstance(answer, dict) or not isinstance(answer.get("problem"), str | None):
            raise self._end("protocol", "The process sent something that is no answer.")
        return answer.get("problem")  # type: ignore[return-value]

    def observe(self, scene: str, inputs: dict[str, Plain], seed: int, seconds: float) -> Plain:
        """Play a scene in the learner's process; see `verify.trial.Learner`."""
        if self._channel is None:
            self.start()
        question: dict[str, Plain] = {"scene": scene, "inputs": inputs, "seed": seed}
        answer = self._exchange(question, min(seconds, max(self.time_left, 0.1)))
        if isinstance(answer, dict) and "observation" in answer:
            return answer["observation"]
        if isinstance(answer, dict) and isinstance(answer.get("refused"), str):
            why = clean(str(answer["refused"]), 120)
            raise Failure(f"What came back cannot be sent: {why}.", "protocol")
        raise self._end("protocol", "The process sent something that is no answer.")

    def _exchange(self, question: dict[str, Plain], seconds: float) -> Plain:
        assert self._channel is not None
        try:
            self._channel.send(question, seconds=seconds)
            return self._channel.receive(seconds)
        except Silent:
            self.hung = True
            raise self._end(
                "timeout", f"No answer within {seconds:.0f} s. Is there a loop that does not end?"
            ) from None
        except Closed:
            raise self._end("crashed", "The process ended before it answered.") from None
        except ChannelError as error:
            raise self._end("protocol", f"The process sent no message: {error}.") from None

    def _end(self, cause: str, detail: str) -> Failure:
        """Have the process ended and return the failure, with what the supervisor knows of it."""
        assert self._channel is not None
        self._channel.close()
        self._channel = None
        self._supervisor.send({"event": "end", "cause": cause})
        known = self._supervisor.receive()
        assert isinstance(known, dict)
        message, ended = known["message"], known["cause"]
        assert isinstance(message, str)
        assert isinstance(ended, str)
        return Failure(message or detail, ended)

    def _ask_supervisor(self, event: str) -> int:
        self._supervisor.send({"event": event})
        _, fds = self._supervisor.receive_with_fds()
        assert len(fds) == 1
        return fds[0]


def main(fd: int, supervisor_pid: int) -> None:
    """Judge one job: the supervisor tells which, at the other end of ``fd``."""
    hide_memory()
    die_with(supervisor_pid)
    supervisor = Channel(socket.socket(fileno=fd))
    told = supervisor.receive()
    assert isinstance(told, dict)
    try:
        _judge(supervisor, told)
    except Exception:  # noqa: BLE001 - whatever it is, it is ours and must be told
        supervisor.send({"event": "broken", "message": traceback.format_exc()[-4000:]})
    else:
        supervisor.send({"event": "done"})


def _judge(supervisor: Channel, told: dict[str, Any]) -> None:
    begin_anew(threads=1)
    bench = Bench(read_lab(Path(told["folder"])))
    learner = Sealed(supervisor, bench, told["exercise"] or b"")
    unmet: dict[str, str] = {}
    if bench.lab.exercise:
        reading = _read(learner, told["trouble"])
        _tell(supervisor, _reading_check(), reading)
        if reading.status != "passed":
            unmet[READING] = _reading_check().title
    else:  # the machine is looked at; no learner's process is started
        use_caches(told["caches"])
    hung: set[str] = set()
    for check in bench.checks:
        supervisor.send({"event": "started", "check": check.name})
        verdict = _waits(check, unmet, hung, learner)
        verdict = verdict or bench.judge(check, learner, told["seed"])
        if learner.hung:
            hung |= set(check.functions)
            learner.hung = False
        if not verdict.holds:
            unmet[check.name] = check.title
        _tell(supervisor, check, verdict)


def _read(learner: Sealed, trouble: str | None) -> Verdict:
    start = time.perf_counter()
    if trouble is not None:
        return Verdict("failed", "wrong", clean(trouble))
    try:
        problem = learner.start()
    except Failure as failure:
        return Verdict("failed", failure.cause, clean(failure.message))
    took = round(time.perf_counter() - start, 4)
    if problem is not None:
        return Verdict("failed", "wrong", clean(problem), seconds=took)
    return Verdict("passed", seconds=took)


def _waits(check: Check, unmet: dict[str, str], hung: set[str], learner: Sealed) -> Verdict | None:
    """Return why ``check`` is not run: what it needs failed, hung before, or time is up."""
    if waits := waits_for((READING, *check.after), unmet):
        return waits
    for function in check.functions:
        if function in hung:
            return not_run("waits", f"`{function}` did not return when it was asked before")
    if learner.time_left <= 0:
        return not_run("waits", "the time for this skill is used up")
    return None


def _reading_check() -> Check:
    return Check(
        name=READING,
        title="`exercise.py` is there and is Python.",
        functions=(),
        evidence="probe",
        level="check",
        after=(),
        review="",
        gpu=False,
        seconds=10.0,
        run=lambda trial: None,  # noqa: ARG005 - it is not run as the others are
    )


def _tell(supervisor: Channel, check: Check, verdict: Verdict) -> None:
    supervisor.send({"event": "result", "result": result(check, verdict)})

"""What comes back from a hostile learner: the judge takes any of it as its own failure."""

from __future__ import annotations

import contextlib
import functools
import resource
import socket
from typing import Any, Final

from hypothesis import strategies as st

from tests.conftest import COURSES, PROJECT
from tests.fuzz.changes import GARBAGE, SHORT, changed
from tests.fuzz.targets import fuzzed
from tests.fuzz.test_framing import STREAMS, frame
from tests.fuzz.test_messages import CONTROL
from tests.fuzz.values import PLAIN, damaged
from verify.authoring import Check
from verify.channel import Channel, pair
from verify.codec import decode, encode
from verify.compare import same
from verify.judge import Sealed
from verify.judging import Bench
from verify.labs import Lab, find_labs
from verify.plain import Plain
from verify.trial import Failure, Learner

LABS: Final = {
    lab.skill: lab
    for folder in (COURSES / "toy", COURSES / "outcomes", PROJECT / "labs")
    for lab in find_labs(folder)
    if lab.exercise
}
_ROOM: Final = 512 * 1024**2  # bytes that one verdict may take


@functools.lru_cache(maxsize=1)
def bench(skill: str) -> Bench:
    """Return a lab's bench; labs share the names of their modules, so one is kept at a time."""
    return Bench(LABS[skill])


class Changing:
    """A learner whose answers are ``change`` of the right ones."""

    def __init__(self, right: Learner, change: Any) -> None:
        self._right = right
        self._change = change
        self.is_right = True

    def observe(self, scene: str, inputs: dict[str, Plain], seed: int, seconds: float) -> Plain:
        right = self._right.observe(scene, inputs, seed, seconds)
        came = decode(encode(self._change(right)))
        self.is_right &= same(came, right)
        return came


def _check(data: Any, skill: str) -> tuple[Bench, Check]:
    it = bench(skill)
    return it, data.draw(st.sampled_from([check for check in it.checks if not check.gpu]))


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@fuzzed(25, skill=st.sampled_from(sorted(LABS)), seed=st.integers(0, 2**48), data=st.data())
def test_an_answer_that_is_almost_right_gets_a_verdict(skill: str, seed: int, data: Any) -> None:
    """Of one thing changed some checks may still say that it holds; none may break."""
    it, check = _check(data, skill)
    before = _memory()
    learner = Changing(it.rehearse(), lambda right: data.draw(changed(right)))
    verdict = it.judge(check, learner, seed)
    assert verdict.status in ("passed", "failed"), verdict
    assert not CONTROL.search(verdict.message), verdict
    assert len(verdict.message) <= 600
    assert _memory() - before < _ROOM


@fuzzed(30, skill=st.sampled_from(sorted(LABS)), seed=st.integers(0, 2**48), data=st.data())
def test_garbage_never_passes(skill: str, seed: int, data: Any) -> None:
    it, check = _check(data, skill)
    garbage = data.draw(GARBAGE)
    learner = Changing(it.rehearse(), lambda right: garbage)
    verdict = it.judge(check, learner, seed)
    assert verdict.status == "failed" or learner.is_right, verdict


_ANSWERS: Final = st.one_of(
    st.fixed_dictionaries({"problem": st.none() | SHORT}),
    st.fixed_dictionaries({"problem": PLAIN}),
    st.fixed_dictionaries({"observation": PLAIN}),
    st.fixed_dictionaries({"refused": PLAIN}),
    PLAIN,
).map(encode)
_SENT: Final = st.lists(_ANSWERS.map(frame) | damaged(_ANSWERS).map(frame) | STREAMS, max_size=5)


def _sealed(lab: Lab, stream: bytes) -> Any:
    """Return a judge's learner that has sent ``stream`` and nothing more."""
    supervisor, theirs = pair()
    ours, learners = socket.socketpair()
    told = Channel(theirs)
    with ours:
        told.send({}, [ours.fileno()])
    told.send({"cause": "crashed", "message": ""})
    learners.sendall(frame(encode({"sealed": True})) + stream)
    learners.shutdown(socket.SHUT_WR)
    return Sealed(supervisor, bench(lab.skill), b"x = 1"), (supervisor, told, learners)


@fuzzed(150, pieces=_SENT)
def test_any_bytes_of_a_learner_are_an_observation_or_its_failure(pieces: list[bytes]) -> None:
    sealed, ends = _sealed(LABS["double"], b"".join(pieces))
    try:
        told = sealed.start()
        assert told is None or isinstance(told, str)
        for _ in range(len(pieces) + 1000):
            with contextlib.suppress(Failure):
                encode(sealed.observe("doubles", {}, 1, 1.0))
            if sealed._channel is None:
                return
        raise AssertionError("more answers than were sent")
    except Failure:
        assert sealed._channel is None, "what has failed has ended"
    finally:
        if sealed._channel is not None:
            sealed._channel.close()
        for end in ends:
            end.close()

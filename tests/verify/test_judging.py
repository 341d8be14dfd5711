"""The verdict on one check, and the hint that only a misconception's observation earns."""

from __future__ import annotations

import pytest

from tests.conftest import COURSES
from verify.judging import Bench, Verdict
from verify.labs import find_labs
from verify.trial import Trial


@pytest.fixture(scope="module")
def bench() -> Bench:
    (lab,) = find_labs(COURSES / "toy")
    return Bench(lab)


def verdict(bench: Bench, check: str, **functions: object) -> Verdict:
    found = next(c for c in bench.checks if c.name == check)
    return bench.judge(found, bench.rehearse(**functions), seed=5)  # type: ignore[arg-type]


def test_the_solution_passes(bench: Bench) -> None:
    assert verdict(bench, "doubles").status == "passed"


def test_a_misconception_earns_its_hint(bench: Bench) -> None:
    came = verdict(bench, "doubles", double=lambda x: x * x)
    assert (came.status, came.cause, came.misconception) == ("failed", "wrong", "squared")
    assert came.hint == "Twice is `2 * x`, not `x ** 2`."
    assert came.message.startswith("double(")
    assert "came back" in came.message


def test_an_unknown_mistake_earns_none(bench: Bench) -> None:
    came = verdict(bench, "doubles", double=lambda x: 3 * x)
    assert (came.status, came.hint, came.misconception) == ("failed", None, None)


def test_a_mistake_that_only_looks_alike_earns_none(bench: Bench) -> None:
    """The first answer is the misconception's, the others are not."""
    answers = iter((True, False, False))
    came = verdict(bench, "doubles", double=lambda x: x * x if next(answers) else 2 * x)
    assert (came.status, came.misconception) == ("failed", None)


def test_an_exception_names_itself(bench: Bench) -> None:
    def double(x: float) -> float:
        raise KeyError("weights")

    came = verdict(bench, "doubles", double=double)
    assert (came.status, came.cause) == ("failed", "crashed")
    assert "KeyError: 'weights'" in came.message


def test_running_out_of_memory_is_told_apart(bench: Bench) -> None:
    def double(x: float) -> float:
        raise MemoryError

    assert verdict(bench, "doubles", double=double).cause == "memory"


@pytest.mark.parametrize("strange", [None, [], [1.0], {"a": 1}, 3, "x", b"", [[None]] * 3])
def test_a_strange_observation_is_the_exercises_failure(bench: Bench, strange: object) -> None:
    class Strange:
        def observe(self, *arguments: object) -> object:
            return strange

    check = bench.checks[0]
    came = bench.judge(check, Strange(), seed=1)  # type: ignore[arg-type]
    assert came.status == "failed"
    assert came.cause in ("wrong", "protocol")


def test_a_broken_check_is_our_error() -> None:
    (lab,) = find_labs(COURSES / "broken")
    bench = Bench(lab)
    assert verdict(bench, "broken").status == "error"
    assert verdict(bench, "broken", double=lambda x: 0).status == "error"


def test_inputs_depend_on_the_seed_and_the_check_alone(bench: Bench) -> None:
    first, other = bench.checks

    def draw(seed: int, check: object) -> float:
        return Trial(bench.rehearse(), seed, check).random.random()  # type: ignore[arg-type]

    assert draw(1, first) == draw(1, first)
    assert len({draw(1, first), draw(2, first), draw(1, other)}) == 3


def test_text_of_learner_code_cannot_write_on_the_terminal(bench: Bench) -> None:
    def double(x: float) -> float:
        raise ValueError("\x1b[2J\x1b]0;title\x07 line\nline \u202e abc \r")

    message = verdict(bench, "doubles", double=double).message
    assert message.isprintable()

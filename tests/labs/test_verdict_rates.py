"""The benchmark of wrong verdicts sees each kind of them."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import PROJECT
from verify.labs import find_labs

ASKED = "loss_from_probability"


@pytest.fixture(scope="module")
def rates() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT / "benchmarks"))
        return importlib.import_module("verdict_rates")


@pytest.fixture(scope="module")
def bench(rates: ModuleType) -> Any:
    lab = next(lab for lab in find_labs(PROJECT / "labs") if lab.skill == "training")
    return rates.RememberingBench(lab)


def right(p: float) -> float:
    return -math.log(p)


def wrong(p: float) -> float:
    return -math.log(p) + 0.5


def in_bits(p: float) -> float:
    return -math.log2(p)


@pytest.mark.parametrize(
    ("kind", "name", "way", "trouble"),
    [
        ("right", "right", right, None),
        ("right", "wrong", wrong, "failed loss_is_minus_the_natural_log: loss_from_probability("),
        ("wrong", "wrong", wrong, None),
        ("wrong", "right", right, "passed"),
        ("wrong", "in_bits", in_bits, "was given the hint of probability_in_bits"),
        ("misconception", "probability_in_bits", in_bits, None),
        ("misconception", "right", right, "passed"),
        ("misconception", "wrong", wrong, "was given no hint"),
        ("misconception", "wrong", in_bits, "was given the hint of probability_in_bits"),
    ],
)
def test_an_answer_is_an_offender_when_its_verdict_is_wrong(
    rates: ModuleType,
    bench: Any,
    kind: str,
    name: str,
    way: Callable[[float], float],
    trouble: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    counted = rates.Rates()
    for seed in (3, 4):
        rates.judge(bench, rates.Answer(ASKED, name, kind, {ASKED: way}), seed, counted)
    assert (counted.plays, len(counted.answers)) == (2, 1)
    assert rates.report(bench.lab, 2, {ASKED: counted}, 1.0) == (trouble is not None)
    told = capsys.readouterr().out
    if trouble is None:
        assert not counted.offenders
    else:
        assert f"- {ASKED}: {name}, seed 3: " in told
        assert f"{name}, seed 4: " in told
        assert trouble in told


def test_every_answer_that_is_known_is_tried(rates: ModuleType, bench: Any) -> None:
    answers = list(rates.answers_of(bench))
    kinds = {kind: [a for a in answers if a.kind == kind] for kind in rates.Kind.__args__}
    assert {a.function for a in kinds["right"]} == {*bench.lab.functions, "all of them"}
    assert {a.function for a in kinds["wrong"]} == set(bench.lab.functions)
    assert len(kinds["misconception"]) == len(bench.misconceptions)


def test_counts_of_two_processes_add_up(rates: ModuleType) -> None:
    one, other = rates.Rates({"a"}, 2, 1, 2, 0, 0, 0, 0, ["x"]), rates.Rates({"a", "b"}, 3)
    one.add(other)
    assert (one.answers, one.plays, one.passed, one.offenders) == ({"a", "b"}, 5, 1, ["x"])


def test_an_unknown_skill_is_refused() -> None:
    command = [sys.executable, "benchmarks/verdict_rates.py", "--skill", "cooking"]
    came = subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
    assert came.returncode == 2
    assert b"no lab with an exercise: cooking" in came.stderr

"""Right in other words passes, wrong in ways nobody listed fails: for every lab, on some seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.labs.answers import answers_to, failed
from verify.judging import Bench
from verify.labs import Lab, find_labs

LABS = [lab for lab in find_labs(PROJECT / "labs") if lab.exercise]
SEEDS = range(4)
Ways = dict[str, tuple[Callable[..., Any], ...]]


@pytest.fixture(scope="module", params=LABS, ids=lambda lab: lab.skill)
def bench(request: pytest.FixtureRequest) -> Bench:
    assert isinstance(request.param, Lab)
    return Bench(request.param)


def test_every_function_is_written_rightly_in_three_other_ways(bench: Bench) -> None:
    right: Ways = answers_to(bench.lab).RIGHT
    assert set(right) == set(bench.lab.functions)
    assert all(len(ways) >= 3 for ways in right.values())


def test_right_in_other_words_passes(bench: Bench) -> None:
    right: Ways = answers_to(bench.lab).RIGHT
    levels = {check.name: check.level for check in bench.checks}
    for function, ways in right.items():
        for number, way in enumerate(ways):
            for seed in SEEDS:
                found = failed(bench, seed, **{function: way})
                wrong = {name: v for name, v in found.items() if levels[name] == "check"}
                assert not wrong, (function, number, seed, wrong)


def test_wrong_in_a_way_nobody_listed_fails_and_says_what_came_back(bench: Bench) -> None:
    wrong: Ways = answers_to(bench.lab).WRONG
    levels = {check.name: check.level for check in bench.checks}
    assert set(wrong) == set(bench.lab.functions)
    for function, ways in wrong.items():
        for number, way in enumerate(ways):
            for seed in SEEDS:
                found = failed(bench, seed, **{function: way})
                assert "check" in {levels[name] for name in found}, (function, number, seed)
                for verdict in found.values():
                    assert verdict.status == "failed", (function, number, seed, verdict)
                    assert verdict.misconception is None, (function, number, seed, verdict)
                    assert ": " in verdict.message, (function, number, seed, verdict)

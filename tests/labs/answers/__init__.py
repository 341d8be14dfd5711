"""Answers to the exercises in other words than the solution's, right and wrong, by lab.

Each module holds two dicts from a function's name to ways of writing it: ``RIGHT``, all of which
must pass on every seed, and ``WRONG``, mistakes that no misconception names, all of which must
fail on every seed. The tests play them on a few seeds, `benchmarks/verdict_rates.py` on 200.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from verify.judging import Bench, Verdict
from verify.labs import Lab


def answers_to(lab: Lab) -> ModuleType:
    """Return the module with the answers to a lab's exercise."""
    return importlib.import_module(f"{__name__}.{lab.skill.replace('-', '_')}")


def failed(bench: Bench, seed: int, **functions: Callable[..., Any]) -> dict[str, Verdict]:
    """Return the checks that fail with ``functions`` in the solution's place, with their verdicts.

    As in a job, a check that waits for another one is played only when that one passed. Advice
    counts as a failure here; a check that needs a part that is missing does not.
    """
    learner = bench.rehearse(**functions)
    found: dict[str, Verdict] = {}
    passed: set[str] = set()
    for check in bench.checks:
        if set(check.functions) & set(functions) and passed >= set(check.after):
            verdict = bench.judge(check, learner, seed)
            if verdict.status == "passed":
                passed.add(check.name)
            elif verdict.status != "not_run":
                found[check.name] = verdict
    return found

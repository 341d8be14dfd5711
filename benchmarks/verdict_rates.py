"""How often a verdict is wrong: wrong answers that pass, right ones that fail, hints that miss.

For every lab with an exercise, on many seeds, all answers that are known are judged: the solution
and the right ways in ``tests/labs/answers`` (none may fail), the misconceptions and the wrong ways
there (none may pass). A misconception's failure must be explained by its own hint, a wrong way that
no misconception names by none. What went wrong is named with its seed; the exit code is then 1.

    python benchmarks/verdict_rates.py
    python benchmarks/verdict_rates.py --skill memory --seeds 20

Labs share the names of their modules, so a process judges one lab only. The answers are judged in
the judge's own process (`verify.judging.Rehearsal`), through the same codec as a learner's.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import functools
import io
import multiprocessing
import os
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from first_verdict import machine

from tests.labs.answers import answers_to, failed
from verify.judging import Bench, Verdict
from verify.labs import Lab, find_labs

PROJECT = Path(__file__).resolve().parents[1]
PARTS = 4  # that a lab's seeds are dealt out in, for each core
Kind = Literal["right", "misconception", "wrong"]
PRELOADED = ["verify.judging", "verify.tiny"]  # torch and transformers, imported once


@dataclasses.dataclass(frozen=True)
class Answer:
    """One way of writing one function.

    Attributes:
        function: Its name; ``"all of them"`` for the solution.
        name: What it is called where it stands.
        kind: Whether it must pass (``right``), fail with its own hint (``misconception``), or fail
            with none (``wrong``).
        run: The functions to put into the solution's place.
    """

    function: str
    name: str
    kind: Kind
    run: dict[str, Callable[..., Any]]


@dataclasses.dataclass
class Rates:
    """What was counted for the answers to one function.

    Attributes:
        answers: How many were tried, as a set of names.
        plays: Answers times seeds.
        passed: Plays of wrong answers that passed.
        wrong: Plays of wrong answers.
        failed: Plays of right answers that failed.
        right: Plays of right answers.
        explained: Failed checks of misconceptions that were given their own hint.
        failures: Failed checks of misconceptions.
        offenders: What should not be, each in a line with its seed.
    """

    answers: set[str] = dataclasses.field(default_factory=set)
    plays: int = 0
    passed: int = 0
    wrong: int = 0
    failed: int = 0
    right: int = 0
    explained: int = 0
    failures: int = 0
    offenders: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Rates) -> None:
        """Take in what another process counted."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, mine | theirs if field.name == "answers" else mine + theirs)


class RememberingBench(Bench):
    """A bench that plays each misconception once for a check and a seed, not at each failure."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.observe_misconception = functools.lru_cache(maxsize=500)(  # type: ignore[method-assign]
            super().observe_misconception
        )


def main() -> None:
    """Measure the labs that are asked for, print a table for each, and exit 1 on any offender."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--skill", action="append", help="one lab; again for more (default: all)")
    parser.add_argument("--seeds", type=int, default=200, help="0 to this (default: 200)")
    options = parser.parse_args()
    labs = [lab for lab in find_labs(PROJECT / "labs") if lab.exercise]
    known = [lab.skill for lab in labs]
    skills = options.skill or known
    if unknown := set(skills) - set(known):
        parser.error(f"no lab with an exercise: {', '.join(sorted(unknown))}")
    print(f"{datetime.date.today()} · {machine()} · seeds 0 to {options.seeds - 1}")
    found = [
        report(lab, options.seeds, rates, seconds)
        for lab, rates, seconds in measured(
            [it for it in labs if it.skill in skills], options.seeds
        )
    ]
    sys.exit(1 if any(found) else 0)


def measured(labs: list[Lab], seeds: int) -> Iterator[tuple[Lab, dict[str, Rates], float]]:
    """Yield each lab with its rates by function and its seconds of computing, on all cores."""
    cores = len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = "1"  # the cores are for the processes
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    parts = min(seeds, PARTS * cores)
    with ProcessPoolExecutor(cores, context, max_tasks_per_child=1) as pool:
        waiting = {
            lab.skill: [
                pool.submit(judge_all, lab, range(part, seeds, parts)) for part in range(parts)
            ]
            for lab in labs
        }
        for lab in labs:
            rates: dict[str, Rates] = defaultdict(Rates)
            seconds = 0.0
            for number, future in enumerate(waiting[lab.skill], 1):
                counted, took = future.result()
                seconds += took
                print(f"{lab.skill}: part {number} of {parts} done", file=sys.stderr)
                for function, more in counted.items():
                    rates[function].add(more)
            yield lab, rates, seconds


def judge_all(lab: Lab, seeds: Iterable[int]) -> tuple[dict[str, Rates], float]:
    """Judge every answer to one lab on some seeds, in a process of its own."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # what is wrong on purpose warns of a lot
    start = time.perf_counter()
    bench = RememberingBench(lab)
    rates: dict[str, Rates] = defaultdict(Rates)
    answers = list(answers_of(bench))
    with contextlib.redirect_stdout(io.StringIO()):  # some print what they found
        for seed in seeds:
            for answer in answers:
                judge(bench, answer, seed, rates[answer.function])
    return dict(rates), time.perf_counter() - start


def answers_of(bench: Bench) -> Iterator[Answer]:
    """Yield all answers that are known: the lab's own and the tests'."""
    yield Answer("all of them", "the solution", "right", bench.solution)
    for wrong in bench.misconceptions:
        yield Answer(wrong.function, wrong.name, "misconception", {wrong.function: wrong.run})
    told = answers_to(bench.lab)
    known: dict[Kind, Any] = {"right": told.RIGHT, "wrong": told.WRONG}
    for kind, by_function in known.items():
        for function, ways in by_function.items():
            for number, way in enumerate(ways):
                name = f"{kind.upper()}[{number}] {way.__name__}"
                yield Answer(function, name, kind, {function: way})


def judge(bench: Bench, answer: Answer, seed: int, rates: Rates) -> None:
    """Judge one answer on one seed and count what comes of it."""
    verdicts = failed(bench, seed, **answer.run)
    levels = {check.name: check.level for check in bench.checks}
    caught = {name: v for name, v in verdicts.items() if levels[name] == "check"}
    rates.answers.add(answer.name)
    rates.plays += 1
    if answer.kind == "right":
        rates.right += 1
        rates.failed += bool(caught)
        troubles = [f"failed {name}: {v.message}" for name, v in caught.items()]
    else:
        # An advice is all that some misconceptions are about.
        passed = not (verdicts if answer.kind == "misconception" else caught)
        rates.wrong += 1
        rates.passed += passed
        troubles = ["passed"] if passed else []
        troubles += [t for name, v in verdicts.items() if (t := missed(answer, name, v))]
    if answer.kind == "misconception":
        rates.failures += len(verdicts)
        rates.explained += sum(v.misconception == answer.name for v in verdicts.values())
    rates.offenders += [
        f"{answer.function}: {answer.name}, seed {seed}: {trouble}" for trouble in troubles
    ]


def missed(answer: Answer, name: str, verdict: Verdict) -> str:
    """Return what is wrong with the verdict on a wrong answer that failed, if anything."""
    if verdict.status != "failed":
        return f"{name} ended in {verdict.status}: {verdict.message}"
    due = answer.name if answer.kind == "misconception" else None
    if verdict.misconception not in (due, None):
        return f"{name} was given the hint of {verdict.misconception}"
    if verdict.misconception is None and due:
        return f"{name} was given no hint"
    return ""


def report(lab: Lab, seeds: int, rates: dict[str, Rates], seconds: float) -> bool:
    """Print a lab's table and its offenders; return whether there are any."""
    print(f"\n### {lab.skill}\n\n{seconds:.0f} s of computing\n")
    print("| function | answers | seeds | plays | wrong passed | right failed | hints right |")
    print("|---|---|---|---|---|---|---|")
    total = Rates()
    for function, counted in rates.items():
        print(row(f"`{function}`" if function in lab.functions else function, seeds, counted))
        counted.answers = {f"{function}/{name}" for name in counted.answers}
        total.add(counted)
    print(row("**together**", seeds, total))
    if total.offenders:
        print()
    for offender in total.offenders:
        print(f"- {offender}")
    return bool(total.offenders)


def row(name: str, seeds: int, rates: Rates) -> str:
    """Return a line of the table; "of" tells how many plays or failures there were."""
    cells = [
        name,
        f"{len(rates.answers)}",
        f"{seeds}",
        f"{rates.plays:,}",
        share(rates.passed, rates.wrong),
        share(rates.failed, rates.right),
        share(rates.explained, rates.failures),
    ]
    return f"| {' | '.join(cells)} |"


def share(part: int, whole: int) -> str:
    """Return "0 of 1,400", or a dash where there is nothing to be a part of."""
    return f"{part:,} of {whole:,}" if whole else "-"


if __name__ == "__main__":
    main()

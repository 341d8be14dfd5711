"""The verdict on one check: run it, and when it fails find the misconception that explains it."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import torch

from verify.authoring import Check, Misconception, checks_of, misconceptions_of
from verify.codec import CodecError, decode, encode
from verify.compare import same
from verify.labs import Lab
from verify.machine import ENVIRONMENT, Advice, Fault
from verify.plain import Plain
from verify.scene import load_module, play
from verify.text import clean
from verify.trial import Failure, Learner, NotRun, Trial

PARTS = ("scene", "solution", "misconceptions", "checks")
CHECKS = PARTS[-1]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a check ended; the fields are those of a result.

    Attributes:
        level: What this counts as, where that is not what the check does: a check of the machine
            may find something that fails nothing.
    """

    status: Literal["passed", "failed", "not_run", "error"]
    cause: str | None = None
    message: str = ""
    hint: str | None = None
    misconception: str | None = None
    seconds: float = 0.0
    level: Literal["advice"] | None = None

    @property
    def holds(self) -> bool:
        """Whether checks that need this one may be run."""
        return self.status == "passed" or self.level is not None


def not_run(cause: Literal["waits", "missing"], reason: str) -> Verdict:
    """Return the verdict on a check that waits for another, or for a part that is missing."""
    return Verdict("not_run", cause, f"not run: {reason}")


def waits_for(needed: Iterable[str], unmet: dict[str, str]) -> Verdict | None:
    """Return that a check is not run if one it needs is in ``unmet``, which has titles by name."""
    title = next((unmet[name] for name in needed if name in unmet), None)
    return None if title is None else not_run("waits", f"first this must hold: {title}")


def result(check: Check, verdict: Verdict) -> dict[str, Plain]:
    """Return the fields of the result of ``check`` (`verify.results.CheckResult`)."""
    return {
        "name": check.name,
        "title": check.title,
        "level": verdict.level or check.level,
        "evidence": check.evidence,
        "status": verdict.status,
        "cause": verdict.cause,
        "message": verdict.message,
        "hint": verdict.hint,
        "misconception": verdict.misconception,
        "seconds": verdict.seconds,
        "review": check.review,
    }


def parts_of(lab: Lab) -> tuple[str, ...]:
    """Return the names of a lab's modules in the order of loading, each for the ones after it.

    A lab without an exercise has checks and whatever modules it needs beside them; these stand
    each alone.
    """
    if lab.exercise:
        return PARTS
    beside = {file.stem for file in lab.folder.glob("*.py")} - {CHECKS}
    return (*sorted(beside), CHECKS)


class Bench:
    """A lab's modules, loaded in the judge's process, which alone may see them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        loaded: dict[str, ModuleType] = {}
        for part in parts_of(lab):  # by these plain names the parts import one another
            file = lab.folder / f"{part}.py"
            loaded[part] = load_module(part, file.read_bytes(), str(file))
        self.checks = checks_of(loaded[CHECKS])
        none = ModuleType("none")
        self.scene = loaded.get("scene", none)
        self.misconceptions = misconceptions_of(loaded.get("misconceptions", none))
        self.solution = {name: getattr(loaded["solution"], name) for name in lab.functions}

    def rehearse(self, **functions: Callable[..., Any]) -> Rehearsal:
        """Return the solution as a learner, with ``functions`` in the place of its own."""
        return Rehearsal(self.scene, {**self.solution, **functions})

    def judge(self, check: Check, learner: Learner, seed: int) -> Verdict:
        """Return the verdict on ``check``; nothing a learner does makes this raise."""
        start = time.perf_counter()
        verdict = self._judge(check, learner, seed)
        return dataclasses.replace(verdict, seconds=round(time.perf_counter() - start, 4))

    def _judge(self, check: Check, learner: Learner, seed: int) -> Verdict:
        if check.gpu and not torch.cuda.is_available():
            return not_run("missing", "no GPU")
        trial = Trial(learner, seed, check)
        try:
            told = check.run(trial)
        except NotRun as reason:
            return not_run("missing", clean(str(reason)))
        except Fault as fault:
            found = Verdict("failed", ENVIRONMENT, clean(fault.happened, 600), fault.hint)
            advised = isinstance(fault, Advice)
            return dataclasses.replace(found, level="advice") if advised else found
        except Failure as failure:
            return self._explain(check, trial, failure, seed)
        except Exception:  # noqa: BLE001 - whose fault it is, the solution tells
            if self.lab.exercise and self._solution_passes(check, seed):
                strange = "What came back is not what this scene returns."
                return Verdict("failed", "protocol", strange)
            return Verdict("error", message=clean(traceback.format_exc(limit=-2)))
        return Verdict("passed", message=clean(told or "", 600))

    def _explain(self, check: Check, trial: Trial, failure: Failure, seed: int) -> Verdict:
        found = self.recognise(check, trial.observations, seed) if trial.observations else None
        return Verdict(
            "failed",
            failure.cause,
            clean(failure.message, 600),
            found.hint if found else None,
            found.name if found else None,
        )

    def recognise(self, check: Check, observations: list[Plain], seed: int) -> Misconception | None:
        """Return the misconception whose observations on the same inputs are ``observations``."""
        for wrong in self.misconceptions_at(check):
            trial = self.observe_misconception(check, wrong, seed)
            if same(list(observations), list(trial.observations)):
                return wrong
        return None

    def misconceptions_at(self, check: Check) -> list[Misconception]:
        """Return the misconceptions whose hint may answer a failure of ``check``."""
        return [
            wrong
            for wrong in self.misconceptions
            if wrong.function in check.functions
            and (not wrong.checks or check.name in wrong.checks)
        ]

    def observe_misconception(self, check: Check, wrong: Misconception, seed: int) -> Trial:
        """Return the trial after ``check`` was run on a misconception, with its observations."""
        trial = Trial(self.rehearse(**{wrong.function: wrong.run}), seed, check)
        try:
            check.run(trial)
        except Exception:  # noqa: BLE001 - it is wrong on purpose; what counts is what was observed
            return trial
        return trial

    def _solution_passes(self, check: Check, seed: int) -> bool:
        try:
            check.run(Trial(self.rehearse(), seed, check))
        except Exception:  # noqa: BLE001 - any of them makes it our fault
            return False
        return True


class Rehearsal:
    """Trusted functions played in the judge's process, through the same codec as a learner's."""

    def __init__(self, scene: ModuleType, functions: dict[str, Callable[..., Any]]) -> None:
        self._scene = scene
        self._exercise = SimpleNamespace(**functions)

    def observe(self, scene: str, inputs: dict[str, Plain], seed: int, seconds: float) -> Plain:  # noqa: ARG002
        """Play the scene; see `verify.trial.Learner`."""
        try:
            return decode(encode(play(getattr(self._scene, scene), self._exercise, inputs, seed)))
        except CodecError as error:
            raise Failure(f"What came back cannot be sent: {error}.", "protocol") from error

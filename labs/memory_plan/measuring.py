"""Starts the process that takes a real step, and explains how it ended."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from typing import Any

import torch

from labs.memory_plan.models import Model
from labs.memory_plan.step import OUT_OF_MEMORY
from labs.quickstart.memory import Moment
from labs.quickstart.plan import Plan
from verify.lab.problems import Problem


@dataclasses.dataclass(frozen=True)
class Measured:
    """The peak of each moment in bytes, and what measured it."""

    moments: dict[Moment, int]
    source: str

    @property
    def peak(self) -> int:
        """The most bytes that were taken at once."""
        return max(self.moments.values())


def measure(model: Model, plan: Plan, where: torch.device) -> Measured:
    """Return what a step of ``plan`` takes, with random weights, in a process of its own.

    Raises:
        Problem: it did not get to its end.
    """
    asked = {
        "config": model.config.to_dict(),
        "plan": dataclasses.asdict(plan),
        "device": where.type,
    }
    done = subprocess.run(
        [sys.executable, "-I", "-m", "labs.memory_plan.step"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise _explain(done.returncode, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Measured(found["moments"], found["source"])


def _explain(code: int, told: str) -> Problem:
    if code in (OUT_OF_MEMORY, -signal.SIGKILL):
        return Problem(
            "The step that was to be measured ran out of memory, although it should have fitted.",
            cause="another program took memory meanwhile, or the prediction is off for this model",
            type_this="the same with half the --batch",
        )
    last = (told.strip().splitlines() or ["it said nothing"])[-1]
    return Problem(
        f"The step that was to be measured failed: {last}",
        cause="a library does not suit this machine",
        type_this="invoke verify --skill environment",
    )

"""`invoke memory.plan`: what training a model will take, in whichever runtime serves here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from verify.lab import programs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.lab.layout import Layout
    from verify.lab.steps import Steps

PLAN: Final = programs.Program(
    module="labs.memory_plan",
    command="memory.plan",
    inputs=("model",),
    output="json",
    bundled=frozenset({"model"}),
    name=re.compile(r"([\w.-]+/)?[\w.-]+"),  # of the hub, or of a bundled shape
    smaller="the same with half the --batch",
)


def run(layout: Layout, steps: Steps, flags: dict[str, str], switches: Sequence[str] = ()) -> int:
    """Make the plan with ``flags`` (by name) and ``switches``; return the exit code.

    Raises:
        Misuse: a path that the lab's container does not see.
        Problem: there is no environment and none can be made, or the program was killed.
    """
    return programs.run(PLAN, layout, steps, flags, switches)

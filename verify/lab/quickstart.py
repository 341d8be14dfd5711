"""`invoke quickstart`: the first fine-tune, in whichever runtime serves here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from verify.lab import programs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.lab.layout import Layout
    from verify.lab.steps import Steps

QUICKSTART: Final = programs.Program(
    module="labs.quickstart",
    command="quickstart",
    inputs=("model", "data"),
    output="output",
    bundled=frozenset({"model", "data"}),
    name=re.compile(r"[\w.-]+/[\w.-]+"),  # of the hub
    smaller="the same with half the --batch; the last checkpoint is kept",
)


def run(layout: Layout, steps: Steps, flags: dict[str, str], switches: Sequence[str] = ()) -> int:
    """Run the quickstart with ``flags`` (by name) and ``switches``; return its exit code.

    Raises:
        Misuse: a path that the lab's container does not see.
        Problem: there is no environment and none can be made, or the run was killed.
    """
    return programs.run(QUICKSTART, layout, steps, flags, switches)

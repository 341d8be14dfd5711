"""``python -m labs.memory_plan``: what training a model will take, and whether it fits here.

Exit codes: 0 it fits, 1 it does not, 2 wrong usage, 3 a fault of the machine, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from labs.memory_plan.options import parser, read
from labs.quickstart.settings import settle
from verify.lab import problems
from verify.lab.steps import Steps


def main(words: Sequence[str]) -> int:
    """Run as ``words`` say and return the exit code."""
    colorless = True if "--no-color" in words else None  # None: as the terminal and NO_COLOR say
    steps = Steps(Console(no_color=colorless))

    def action() -> int:
        options = read(parser().parse_args(words))
        settle()
        with steps.waiting("Loading the libraries"):
            from labs.memory_plan import run  # noqa: PLC0415 - torch and its company: seconds
        return run.run(options, steps)

    return problems.attempt(action, Console(stderr=True, no_color=colorless))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m labs.quickstart``: fine-tune a model on instructions, and show what changed.

Exit codes: 0 the loss on held-out rows fell, 1 it did not, 2 wrong usage, 3 a fault of the
environment (too little memory, say), 130 interrupted: the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from labs.quickstart.options import parser, read
from labs.quickstart.settings import settle
from verify.lab import problems
from verify.lab.steps import Steps


def main(words: Sequence[str]) -> int:
    """Run as ``words`` say and return the exit code."""
    options = read(parser().parse_args(words))
    colorless = None if options.color else True  # None: as the terminal and NO_COLOR say
    steps = Steps(Console(no_color=colorless))
    settle()

    def action() -> int:
        with steps.waiting("Loading the libraries"):
            from labs.quickstart import run  # noqa: PLC0415 - torch and its company: seconds
        return run.run(options, steps)

    return problems.attempt(action, Console(stderr=True, no_color=colorless))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m labs.quickstart``: fine-tune a model on instructions, and show what changed.

Exit codes: 0 the loss on held-out rows fell, 1 it did not, 2 wrong usage, 3 a fault of the
environment (too little memory, say), 130 interrupted: the same command goes on.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Final

from rich.console import Console

from labs.quickstart.options import parser, read
from verify.lab import problems
from verify.lab.layout import InImage, here
from verify.lab.steps import Steps

_SETTINGS: Final = {  # all of them are read when the libraries are loaded
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # a thread that waits leaves its core to others
    "CUDA_VISIBLE_DEVICES": "0",  # one GPU: Trainer would copy the model to all it sees
}


def main(words: Sequence[str]) -> int:
    """Run as ``words`` say and return the exit code."""
    options = read(parser().parse_args(words))
    colorless = None if options.color else True  # None: as the terminal and NO_COLOR say
    steps = Steps(Console(no_color=colorless))
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if isinstance(here(), InImage):  # JupyterLab's terminal has it too: a model is fetched once
        os.environ["HOME"] = str(here().state)
    _be_quiet()

    def action() -> int:
        with steps.waiting("Loading the libraries"):
            from labs.quickstart import run  # noqa: PLC0415 - torch and its company: seconds
        return run.run(options, steps)

    return problems.attempt(action, Console(stderr=True, no_color=colorless))


def _be_quiet() -> None:
    """Silence what the libraries say that a learner can do nothing about; errors are raised."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

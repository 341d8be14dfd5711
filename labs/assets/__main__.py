"""Makes the model, the tokenizers and the data of the lab; harmless where they are there already.

Exit codes: 0 done, 3 a fault of the machine (a full disk, say), 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console

from labs import assets
from labs.assets import stamp
from verify.lab import problems

_SETTINGS: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",  # a thread that waits leaves its core to others
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}


def main(words: list[str]) -> int:
    """Do what ``words`` say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m labs.assets", description=__doc__)
    where = "where to (without it: the variable LAB_ASSETS, or where the lab looks for them)"
    parser.add_argument("--output", type=Path, default=assets.folder(), help=where)
    output = parser.parse_args(words).output.resolve()
    return problems.attempt(lambda: make(output), Console(stderr=True))


def make(output: Path) -> None:
    """Make all of it in ``output`` unless it is there; one process at a time."""
    if not stamp.fits(output):  # an image's is there, and nothing can be written beside it
        output.parent.mkdir(parents=True, exist_ok=True)
        with _alone(output):
            if not stamp.fits(output):
                _make(output)
                return
    say(f"There already: {output}")


def _make(output: Path) -> None:
    settle()
    from labs.assets import making  # noqa: PLC0415 (after the settings, and only if needed)

    began = time.monotonic()
    making.make(output, lambda part, doing: say(f"[{part:4.0%}] {doing}"))
    say(f"Made in {time.monotonic() - began:.0f} s: {output}")


def settle() -> None:
    """Set what the libraries look at when they are loaded."""
    os.environ.update(_SETTINGS)


def say(text: str) -> None:
    """Print a line at once; `verify.lab.assets` reads along."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    with output.with_name(f"{output.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

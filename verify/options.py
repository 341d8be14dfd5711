"""The flags of ``invoke verify`` and ``python -m verify``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

RUNTIMES: Final = ("auto", "compose", "local", "standalone")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError("a seed is a number from 0 to 2**63 - 1")
    return int(text)


def _file(text: str) -> Path:
    if text == "-":
        raise argparse.ArgumentTypeError("give the name of a file")
    return Path(text)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="verify",
        allow_abbrev=False,  # a mistyped flag is wrong usage, never another flag
        description="Tell which skills are ready, why the others are not, and what to review.",
        epilog="Exit codes: 0 ready, 1 not ready yet, 2 wrong usage, 3 not the learner's fault.",
    )
    add = made.add_argument
    add(
        "--skill",
        action="append",
        metavar="SKILL",
        help="verify this skill; repeatable; without it: all",
    )
    add(
        "--workspace",
        type=Path,
        metavar="DIR",
        help="where DIR/<skill>/exercise.py are; default: workspace/",
    )
    add(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="auto: a resident runner if one answers, that of compose first; else standalone: "
        "one for this run, slower",
    )
    add("--seed", type=_seed, metavar="N", help="repeat a run's inputs; such a run is practice")
    add("--json", type=_file, metavar="FILE", help="write the record as JSON")
    add("--junit", type=_file, metavar="FILE", help="write the record as JUnit XML")
    add("--labs", type=Path, metavar="DIR", help="labs of your own (implies --runtime standalone)")
    add("--no-color", action="store_true", help="no colour; the variable NO_COLOR does the same")
    return made

"""The flags of ``invoke quickstart`` and ``python -m labs.quickstart``, and what they decide."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Final, Literal

Checkpointing = Literal["auto", "on", "off"]

RATE, SMALL_RATE, SMALL = 2e-4, 2e-3, 50_000_000
"""The learning rate of https://arxiv.org/abs/2305.14314 for 7 and 13 billion parameters, and the
one for models of less than so many: the smaller a model, the larger the steps it bears."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What was asked for; None: the default, which depends on the rest."""

    model: str | None
    data: Path | None
    method: Literal["qlora", "lora"]
    steps: int
    batch: int
    accumulate: int
    length: int
    learning_rate: float | None
    rank: int
    checkpointing: Checkpointing
    seed: int
    output: Path | None
    fresh: bool
    color: bool

    def rate_for(self, parameters: int) -> float:
        """Return the learning rate for a model of so many ``parameters``."""
        return self.learning_rate or (SMALL_RATE if parameters < SMALL else RATE)


COUNTS: Final = {
    "steps": (160, "updates of the weights"),
    "batch": (16, "rows of one forward pass"),
    "accumulate": (1, "forward passes to one update"),
    "length": (512, "tokens that a row may have; longer rows are left out"),
    "rank": (16, "of the adapters"),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="quickstart",
        allow_abbrev=False,  # a mistyped flag is wrong usage, never another flag
        description="Fine-tune a model on a data set of instructions, and show what changed.",
        epilog="The same command again goes on where it stopped. Exit codes: 0 the loss on "
        "held-out rows fell, 1 it did not, 2 wrong usage, 3 the machine's fault, 130 interrupted.",
    )
    add = made.add_argument
    add(
        "--model", metavar="PATH", help="a folder or a model of the hub (without it: the lab's own)"
    )
    add("--data", type=Path, metavar="PATH", help="a folder with train.jsonl and test.jsonl")
    add(
        "--method",
        choices=("qlora", "lora"),
        default="qlora",
        help="adapters beside frozen weights, in NF4 (qlora) or 16 bits (lora)",
    )
    for name, (default, text) in COUNTS.items():
        told = f"{text} (default: {default})"
        add(f"--{name}", type=_count, default=default, metavar="N", help=told)
    add(
        "--learning-rate",
        type=_rate,
        metavar="X",
        help=f"default: {RATE:g}; {SMALL_RATE:g} for a model of less than {SMALL // 10**6} million "
        "parameters",
    )
    add(
        "--checkpointing",
        choices=("auto", "on", "off"),
        default="auto",
        help="activations computed again in backward; auto: where it does not fit without",
    )
    add("--seed", type=_seed, default=0, metavar="N", help="decides all that is drawn (default: 0)")
    add("--output", type=Path, metavar="DIR", help="the run's folder (in workspace/quickstart)")
    add("--fresh", action="store_true", help="begin again; an earlier run is kept")
    add("--no-color", action="store_true", help="no colour; the variable NO_COLOR does the same")
    return made


def read(parsed: argparse.Namespace) -> Options:
    """Return what the parser understood."""
    told = vars(parsed)
    return Options(**{name: it for name, it in told.items() if name != "no_color"},
                   color=not told["no_color"])  # fmt: skip


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError("a seed is a number from 0 to 2**32 - 1")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 0 and 1")
    return rate

"""The flags of ``invoke memory.plan`` and ``python -m labs.memory_plan``."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Final, Literal, NoReturn

from labs.quickstart.options import COUNTS
from verify.lab.problems import Misuse

Dtype = Literal["bfloat16", "float32"]
METHODS: Final = ("qlora", "lora", "full")
_COUNTED: Final = ("batch", "length", "accumulate", "rank")  # the quickstart's, with its defaults
_MOST: Final = 10**9


@dataclasses.dataclass(frozen=True)
class Options:
    """What was asked for; a length of None: the quickstart's, or the model's if that is less."""

    model: str | None
    method: Literal["full", "lora", "qlora"]
    batch: int
    length: int | None
    accumulate: int
    rank: int
    targets: Literal["all-linear", "attention"]
    optimizer: Literal["adamw", "adamw-8bit", "sgd"]
    dtype: Dtype
    mixed: bool
    checkpointing: bool
    measure: bool
    json: Path | None
    color: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Misuse(
            f"{message[:1].upper()}{message[1:]}.",
            cause="a mistyped flag, or a value that it does not take",
            type_this="invoke --help memory.plan",
        )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; it raises `Misuse`."""
    made = _Parser(
        prog="memory.plan",
        allow_abbrev=False,
        description="What training a model will take, part by part, from its config alone.",
        epilog="Exit codes: 0 it fits this machine, 1 it does not, 2 wrong usage, 3 a fault of the "
        "machine, 130 interrupted.",
    )
    add = made.add_argument
    add("--model", metavar="PATH", help="a folder, a config.json, a shape's name (llama-8b), or a "
        "name on the hub (without it: the small model that is bundled)")  # fmt: skip
    add("--method", choices=METHODS, default="qlora", help="what is trained")
    for name in _COUNTED:
        default, text = COUNTS[name]
        told = f"{text} (default: {default})"
        add(f"--{name}", type=_count, metavar="N", help=told,
            default=None if name == "length" else default)  # fmt: skip
    add("--targets", choices=("all-linear", "attention"), default="all-linear",
        help="which layers of a block have adapters")  # fmt: skip
    add("--optimizer", choices=("adamw", "adamw-8bit", "sgd"), default="adamw")
    add("--dtype", choices=("bfloat16", "float32"), default="bfloat16",
        help="type of the weights (frozen ones with lora and qlora)")  # fmt: skip
    add("--mixed", action="store_true",
        help="full: float32 master weights, products in bfloat16 (adapters: always)")  # fmt: skip
    add("--checkpointing", action="store_true", help="activations computed again in backward")
    add("--measure", action="store_true", help="also take two real steps, and measure the second")
    add("--json", type=Path, metavar="FILE", help="write the numbers to this file")
    add("--no-color", action="store_true", help="no colour; the variable NO_COLOR does the same")
    return made


def read(parsed: argparse.Namespace) -> Options:
    """Return what the parser understood.

    Raises:
        Misuse: flags that do not go together.
    """
    told = vars(parsed)
    options = Options(**{name: it for name, it in told.items() if name != "no_color"},
                      color=not told["no_color"])  # fmt: skip
    if options.mixed and options.method != "full":
        raise Misuse(
            f"--mixed is for --method full: with {options.method} it is so already.",
            cause="adapters are float32, and what is frozen needs no master copy",
            type_this="the same without --mixed, or with --method full",
        )
    if options.mixed and options.dtype == "float32":
        raise Misuse(
            "--mixed and --dtype float32 are two things: mixed has products in bfloat16.",
            cause="with --mixed the weights are float32 already, as the master copy",
            type_this="the same without --dtype",
        )
    return options


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < _MOST:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)

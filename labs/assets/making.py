"""Makes all that the lab brings along: whole, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from transformers.utils import logging

from labs.assets import DATA, FAMILIES, TOKENIZERS, rows, stamp, training, vocabulary
from labs.assets.rows import Split
from labs.assets.training import Plan
from verify import tiny

Hear = Callable[[float, str], None]
"""Called with the part that is done, from 0 to 1, and what is done now."""

_SEED: Final = 20  # of the first of the untrained models
_BEFORE_TRAINING: Final = 0.02  # the part that all else is


def make(output: Path, hear: Hear, plan: Plan | None = None) -> None:
    """Make everything beside ``output``, then put it there, in place of what was there before.

    A run that is stopped leaves ``output`` as it was; what it had begun, the next one removes.
    """
    begun, old = (output.with_name(f"{output.name}.{ending}") for ending in ("begun", "old"))
    for leftover in (begun, old):
        if leftover.exists():
            shutil.rmtree(leftover)
    begun.mkdir(parents=True)
    _make_all(begun, hear, plan or Plan())
    stamp.write(begun)
    _let_everybody_read(begun)
    if output.exists():
        output.rename(old)
    begun.rename(output)
    if old.exists():
        shutil.rmtree(old)


def _make_all(folder: Path, hear: Hear, plan: Plan) -> None:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    hear(0.0, "data")
    splits = dict(zip(DATA, (rows.instructions(), rows.json_answers()), strict=True))
    for name, split in splits.items():
        _write_data(split, folder / "data" / name)
    hear(0.0, "tokenizers")
    core = vocabulary.learn(row for split in splits.values() for row in split.train)
    for kind in TOKENIZERS:
        vocabulary.wrap(core, pad=kind == "pad").save_pretrained(folder / "tokenizer" / kind)
    hear(0.01, "untrained models")
    for number, family in enumerate(FAMILIES):
        _write_random_model(family, _SEED + number, core, folder / "random" / family)
    _write_model(splits[DATA[0]], core, plan, hear, folder / "model")


def _write_data(split: Split, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, part in (("train", split.train), ("test", split.test)):
        lines = "".join(row.line() for row in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def _write_random_model(family: str, seed: int, core: Tokenizer, folder: Path) -> None:
    """Write an untrained model, and the tokenizer without padding, as Llama's is."""
    tokenizer = vocabulary.wrap(core, pad=False)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = tiny.tiny_model(
        family, seed, vocabulary=vocabulary.SIZE, width=64, depth=3, pad_token_id=None, **ids
    )
    _write(model, tokenizer, folder)


def _write_model(split: Split, core: Tokenizer, plan: Plan, hear: Hear, folder: Path) -> None:
    tokenizer = vocabulary.wrap(core, pad=True)

    def told(step: int, steps: int, loss: float) -> None:
        part = _BEFORE_TRAINING + (1 - _BEFORE_TRAINING) * step / steps
        hear(part, f"training: step {step} of {steps}, loss {loss:.2f}")

    model: Any = training.train(split.train, tokenizer, plan, told)
    _write(model.to(torch.bfloat16), tokenizer, folder)


def _write(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _let_everybody_read(folder: Path) -> None:
    """Learner code may have a user of its own, and safetensors writes files for one user alone."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

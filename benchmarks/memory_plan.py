"""How near `invoke memory.plan` comes: what it predicts beside what a real training step takes.

Models with random weights, of five families and every method, with and without checkpointing: large
on a GPU, where the allocator counts; small on a CPU, where every tensor that lives is counted. Each
is planned and measured by the command that a learner types, in a process of its own.

    python benchmarks/memory_plan.py
    python benchmarks/memory_plan.py --write docs/measurements/memory-plan-h100.md
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from first_verdict import machine

from verify.computing import device

PROJECT: Final = Path(__file__).resolve().parents[1]
TOO_LARGE: Final = 1
"""The exit code of a plan that does not fit this machine."""

_MIB: Final = 2**20
_UNTIED: Final = {"tie_word_embeddings": False, "max_position_embeddings": 2048}
_FAMILY: Final[dict[str, dict[str, Any]]] = {
    "llama": _UNTIED,
    "mistral": _UNTIED | {"sliding_window": None},
    "qwen2": _UNTIED | {"tie_word_embeddings": True},
    "qwen3": _UNTIED,
    "phi3": _UNTIED | {"pad_token_id": 0},
}
_SIZE: Final = {
    "cuda": {"vocab_size": 32_000, "hidden_size": 1024, "intermediate_size": 2816,
             "num_hidden_layers": 12, "num_attention_heads": 16, "num_key_value_heads": 4,
             "head_dim": 64},
    "cpu": {"vocab_size": 4_000, "hidden_size": 256, "intermediate_size": 704,
            "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2,
            "head_dim": 32},
}  # fmt: skip
_TOKENS: Final = {"cuda": (8, 512), "cpu": (4, 64)}  # batch, length
METHODS: Final = {
    "full, bfloat16": ["--method", "full"],
    "full, mixed": ["--method", "full", "--mixed"],
    "full, 8-bit AdamW": ["--method", "full", "--optimizer", "adamw-8bit"],
    "LoRA": ["--method", "lora"],
    "LoRA, attention": ["--method", "lora", "--targets", "attention"],
    "QLoRA": ["--method", "qlora"],
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One step to plan and to take."""

    family: str
    method: str
    checkpointing: bool

    def __str__(self) -> str:
        return f"{self.family}, {self.method}{', checkpointing' if self.checkpointing else ''}"


@dataclasses.dataclass(frozen=True)
class Found:
    """What came of it: peaks in bytes, and what measured."""

    predicted: int
    measured: int
    source: str

    @property
    def error(self) -> float:
        """How far the prediction is off, as a share of what was measured."""
        return self.predicted / self.measured - 1


CASES: Final = [
    Case(family, method, checkpointing)
    for family in _FAMILY
    for method in METHODS
    for checkpointing in (False, True)
]


def measure(case: Case, folder: Path) -> Found | None:
    """Return what was predicted and measured on this machine; None: it has too little memory free.

    Raises:
        RuntimeError: it failed, in its own words.
    """
    where = device().type
    config: dict[str, Any] = {**_SIZE[where], "model_type": case.family, **_FAMILY[case.family]}
    (folder / "config.json").write_text(json.dumps(config))
    batch, length = _TOKENS[where]
    words = ["--model", str(folder), "--batch", f"{batch}", "--length", f"{length}"]
    words += METHODS[case.method] + (["--checkpointing"] if case.checkpointing else [])
    return plan(words, folder / "plan.json")


def plan(words: list[str], file: Path) -> Found | None:
    """Return what a plan of these flags predicts and measures, its numbers being in ``file``."""
    command = [sys.executable, "-m", "labs.memory_plan", *words, "--measure", "--json", str(file)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode == TOO_LARGE and file.exists():  # and not Python's own code for a traceback
        return None
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or done.stdout.strip())
    told: dict[str, Any] = json.loads(file.read_text())
    return Found(told["peak"], told["measured"]["peak"], told["measured"]["source"])


def table() -> str:
    """Return the page: the machine, a row for each case, and the worst."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "the CPU"
    rows, worst, source = [], 0.0, ""
    for case in CASES:
        print(f"{case} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(case, Path(folder))
        kept = f"| {case.family} | {case.method} | {'yes' if case.checkpointing else ''} "
        if found is None:
            rows.append(f"{kept}| | | too little memory free |")
            continue
        source, worst = found.source, max(worst, found.error, key=abs)
        sizes = f"{found.predicted / _MIB:,.1f} | {found.measured / _MIB:,.1f}"
        rows.append(f"{kept}| {sizes} | {share(found.error)} |")
    today = datetime.datetime.now(tz=datetime.UTC).date()
    batch, length = _TOKENS[device().type]
    head = [
        f"# Memory, predicted and measured on {gpu}",
        "",
        f"{today} · {machine()} · torch {torch.__version__}",
        "",
        "`python benchmarks/memory_plan.py`: the peak of the second training step of models with",
        f"random weights, batch {batch}, length {length}; measured by {source}.",
        "",
        f"The worst of {len(rows)} predictions is off by {share(worst)}.",
        "",
        "| family | method | checkpointing | predicted MiB | measured MiB | error |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def share(part: float) -> str:
    """Return it in percent with its sign; nothing has none."""
    told = f"{part:+.1%}"
    return told[1:] if told[1:] == "0.0%" else told


def main() -> None:
    """Measure every case; print the page, or write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="a page of Markdown")
    told = parser.parse_args()
    page = table()
    if told.write is None:
        print(page)
    else:
        told.write.write_text(page, "utf-8")


if __name__ == "__main__":
    main()

"""The plan's sums against CUDA's own count, on models that are large beside what CUDA rounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT

LIBRARIES = ("transformers", "peft", "bitsandbytes", "accelerate")
SHAPE = {
    "vocab_size": 32_000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "sliding_window": None,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3")
METHODS = {
    "full, bfloat16": ["--method", "full"],
    "full, mixed": ["--method", "full", "--mixed"],
    "full, 8-bit AdamW": ["--method", "full", "--optimizer", "adamw-8bit"],
    "lora": ["--method", "lora"],
    "lora, attention": ["--method", "lora", "--targets", "attention"],
    "qlora": ["--method", "qlora"],
}
CASES = [("llama", it) for it in METHODS]
CASES += [(family, it) for family in FAMILIES[1:] for it in ("full, mixed", "qlora")]


def plan(*words: str, file: Path) -> Any:
    """Return the numbers of a plan that was measured, or skip where it cannot be."""
    for library in LIBRARIES:
        pytest.importorskip(library)
    command = [sys.executable, "-m", "labs.memory_plan", *words, "--measure", "--json", str(file)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode == 1:
        pytest.skip("this GPU has too little memory free")
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize(("family", "method"), CASES)
def test_the_prediction_is_within_a_tenth_of_what_cuda_counts(
    family: str, method: str, checkpointing: bool, tmp_path: Path
) -> None:
    head = {"head_dim": 64} if family == "qwen3" else {}
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | head | {"model_type": family}))
    words = ["--model", str(tmp_path), "--batch", "8", "--length", "512", *METHODS[method]]
    words += ["--checkpointing"] if checkpointing else []
    found = plan(*words, file=tmp_path / "plan.json")["measured"]
    assert found["source"] == "torch.cuda.max_memory_allocated"
    assert abs(found["error"]) < 0.1, found


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("name", ["qwen2-0.5b", "tinyllama-1.1b", "llama-8b"])
def test_so_it_is_for_models_of_true_size(name: str, method: str, tmp_path: Path) -> None:
    words = ["--model", name, "--method", method, "--batch", "2", "--length", "1024"]
    found = plan(*words, "--checkpointing", file=tmp_path / "plan.json")["measured"]
    assert abs(found["error"]) < 0.1, found

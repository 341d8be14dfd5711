"""The plan's sums against CUDA's own count, on models that are large beside what CUDA rounds."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import PROJECT

LIBRARIES = ("transformers", "peft", "bitsandbytes", "accelerate")


def benchmark() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT / "benchmarks"))
        return importlib.import_module("memory_plan")


BENCHMARK = benchmark()


@pytest.fixture(autouse=True)
def libraries() -> None:
    for library in LIBRARIES:
        pytest.importorskip(library)


def near(found: Any) -> None:
    if found is None:
        pytest.skip("this GPU has too little memory free")
    assert found.source.startswith("torch.cuda.max_memory_allocated")
    assert abs(found.error) < 0.1, found


@pytest.mark.parametrize("case", BENCHMARK.CASES, ids=str)
def test_the_prediction_is_within_a_tenth_of_what_cuda_counts(case: Any, tmp_path: Path) -> None:
    near(BENCHMARK.measure(case, tmp_path))


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("name", ["qwen2-0.5b", "tinyllama-1.1b", "llama-8b"])
def test_so_it_is_for_models_of_true_size(name: str, method: str, tmp_path: Path) -> None:
    words = ["--model", name, "--method", method, "--batch", "2", "--length", "1024"]
    near(BENCHMARK.plan([*words, "--checkpointing"], tmp_path / "plan.json"))

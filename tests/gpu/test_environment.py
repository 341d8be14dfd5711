"""The environment lab on a real GPU: what only it can show passes, and can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.conftest import PROJECT
from verify import kinds
from verify.judging import Bench, Verdict
from verify.labs import read_lab
from verify.room import gpu_memory, main_memory

BENCH = Bench(read_lab(PROJECT / "labs" / "environment"))
COMPUTES = {
    "gpu_knows_bf16": (),
    "code_for_gpu": (),
    "bf16_product": (),
    "autocast_step": (),
    "attention_right": (),
    "kernel_compiled": ("triton",),
    "nf4_round_trip": ("bitsandbytes",),
    "nf4_product": ("bitsandbytes",),
    "eight_bit_step": ("bitsandbytes",),
    "bitsandbytes_loaded": ("bitsandbytes",),
    "assembler_there": ("triton",),
    "gpu_memory_free": (),
}
SEEDS = range(10)


def judge(name: str, seed: int = 1) -> Verdict:
    check = next(it for it in BENCH.checks if it.name == name)
    return BENCH.judge(check, BENCH.rehearse(), seed)


@pytest.fixture(autouse=True)
def new_enough(gpu: str) -> None:
    if torch.cuda.get_device_capability(0) < (8, 0):
        pytest.skip(f"this GPU ({gpu}) has no bfloat16 of its own")


@pytest.mark.parametrize("name", COMPUTES)
def test_what_is_computed_on_it_is_right_whatever_the_numbers(name: str) -> None:
    for library in COMPUTES[name]:
        pytest.importorskip(library)
    for seed in SEEDS:
        verdict = judge(name, seed)
        assert verdict.status == "passed", (seed, verdict.message, verdict.hint)
        assert "on the CPU" not in verdict.message


@pytest.mark.parametrize("name", ["products_fast", "memory_fast"])
def test_its_speed_is_told_beside_what_it_should_reach(name: str, gpu: str) -> None:
    verdict = judge(name)
    assert ("% of the" in verdict.message) == (kinds.card(gpu) is not None)


def test_a_product_that_is_wrong_on_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.Tensor.__matmul__

    def wrong(left: Any, other: Any) -> Any:
        made = right(left, other)
        return made * 1.02 if left.is_cuda and made.dtype == torch.bfloat16 else made

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    monkeypatch.setattr(torch, "matmul", wrong)
    monkeypatch.setattr(torch, "mm", wrong)
    assert judge("bf16_product").cause == "environment"


def test_code_for_others_alone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_50", "sm_60"])
    assert judge("code_for_gpu").cause == "environment"


def test_its_name_and_its_capability_are_of_one_kind(gpu: str) -> None:
    major, minor = torch.cuda.get_device_capability(0)
    by_name = kinds.recognise(kinds.Traits(gpu))
    assert by_name == kinds.recognise(kinds.Traits(gpu, f"{major}.{minor}"))


def test_the_memory_that_is_free_is_that_of_the_right_place() -> None:
    free = gpu_memory()
    if torch.cuda.get_device_properties(0).is_integrated:
        assert free.source == main_memory().source
    else:
        assert free.bytes == pytest.approx(torch.cuda.mem_get_info(0)[0], rel=0.05)


def look(*words: str) -> dict[str, dict[str, Any]]:
    """Return what a node's checks say, by name, in the 60 s in which they have to be done."""
    command = [sys.executable, "-m", "verify.node_checks", "--labs", str(PROJECT / "labs")]
    command += words
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return {it["result"]["name"]: it["result"] for it in events if it["event"] == "result"}


def test_a_node_is_judged_with_the_workload_in_a_minute() -> None:
    found = look("--gpu-workload")
    computed = {name for name, libraries in COMPUTES.items() if not libraries}
    assert {name: found[name]["message"] for name in computed
            if found[name]["status"] != "passed"} == {}  # fmt: skip
    assert "on the GPU" in found["bf16_product"]["message"]


def test_without_the_workload_it_is_left_alone() -> None:
    found = look()
    hidden = {name for name, it in found.items() if "--gpu-workload" in it["message"]}
    assert {"gpu_knows_bf16", "kernel_compiled", "gpu_memory_free"} <= hidden
    assert "on the CPU" in found["bf16_product"]["message"]

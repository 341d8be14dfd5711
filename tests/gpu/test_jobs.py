"""Jobs on a GPU: the sealed learner has it, its share of it, and no more."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import PROJECT, Runner
from tests.verify.test_outcomes import GOOD, with_act
from verify import gpu_nodes, memory_guard
from verify.labs import Limits, find_labs

SKILLS = [lab.skill for lab in find_labs(PROJECT / "labs") if lab.exercise]
LIBRARIES = {
    "huggingface": ["datasets", "transformers"],
    "peft": ["peft", "bitsandbytes", "transformers"],
    "pytorch": ["transformers"],
    "transformers": ["transformers"],
    "memory": ["transformers"],
}


@pytest.mark.parametrize("skill", SKILLS)
def test_every_solution_passes_every_check_sealed(real_labs: Runner, skill: str) -> None:
    for library in LIBRARIES.get(skill, []):
        pytest.importorskip(library)
    solution = (PROJECT / "labs" / skill / "solution.py").read_text()
    results = real_labs.verify(skill, solution)
    wrong = {name: r.message for name, r in results.items() if r.status != "passed"}
    assert wrong == {}, "the checks that need a GPU are run here too"


def test_a_learner_computes_on_it_and_so_does_the_next(outcomes: Runner) -> None:
    code = with_act("return (torch.ones(8, device='cuda').sum().item() - 8) + x + 1")
    for _ in range(2):
        assert outcomes.verify("acts", f"import torch\n{code}")["acts"].status == "passed"


def test_more_than_its_share_is_told_as_memory(outcomes: Runner) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    asked = int(total * (Limits().gpu_share + 0.1))
    code = with_act(f"torch.empty({asked}, dtype=torch.uint8, device='cuda'); return x + 1")
    assert outcomes.verify("acts", f"import torch\n{code}")["acts"].cause == "memory"
    assert outcomes.verify("acts", GOOD)["acts"].status == "passed"


def test_with_a_gpu_the_learner_has_no_right_more(outcomes: Runner) -> None:
    body = (
        "torch.ones(1, device='cuda')\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    raise ValueError([l for l in lines if l.startswith(('NoNewPrivs', 'CapEff'))])"
    )
    message = outcomes.verify("acts", f"import torch\n{with_act(body)}")["acts"].message
    assert re.search(r"CapEff:\\t0{16}", message), message
    assert "NoNewPrivs:\\t1" in message


def test_the_driver_and_torch_agree_on_what_is_free() -> None:
    if torch.cuda.get_device_properties(0).is_integrated:
        pytest.skip("this GPU has no memory of its own")
    free = memory_guard.gpu_free(memory_guard._driver_library(), gpu_nodes.first_visible())
    assert free is not None
    assert abs(free - torch.cuda.mem_get_info(0)[0]) < 2 * memory_guard.GIB


def test_the_quickstart_learns_on_it(tmp_path: Path) -> None:
    for library in ("peft", "bitsandbytes", "transformers"):
        pytest.importorskip(library)
    command = [sys.executable, "-m", "labs.quickstart", "--steps", "60", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(next(tmp_path.rglob("report.json")).read_text())
    assert report["loss"]["after"] < report["loss"]["before"]
    assert 0.9 <= report["memory"]["ratio"] <= 1.1

"""Machines as their owners described them in public: each gets its diagnosis, and no false alarm.

`recorded/machines/` holds what `torch.utils.collect_env` and its like printed, with where from.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.machines import FRESH, RECORDED, engine, seen
from tests.lab.test_host import inert
from verify.kinds import Traits, known, recognise
from verify.lab import gpu, host
from verify.lab.gpu import Gpu

MACHINES = RECORDED / "machines"
ALL = sorted(file.stem for file in MACHINES.glob("*.txt"))
FLOOR = "is too old: the lab's CUDA 13 needs 580"

KINDS = {
    "gb10": "DGX Spark (GB10)",
    "gb10-warned": "DGX Spark (GB10)",
    "b200": "Blackwell for data centres (B200, B300, GB200, GB300)",
    "b200-old-driver": "Blackwell for data centres (B200, B300, GB200, GB300)",
    "b300": "Blackwell for data centres (B200, B300, GB200, GB300)",
    "gb200-old-driver": "Blackwell for data centres (B200, B300, GB200, GB300)",
    "rtx5090-old": "Blackwell RTX",
    "h100": "Hopper",
    "gh200-old-driver": "Hopper",
    "gh200-cpu-torch": "Hopper",
    "a100-old-driver": "Ampere",
    "rtx3090-old-driver": "Ampere",
    "l40s-old-driver": "Ada",
    "wsl-old-driver": "Ada",
    "v100-old-driver": "older than Turing",
    "no-driver": "x86-64 without a GPU",
}


def text(name: str) -> str:
    return (MACHINES / f"{name}.txt").read_text()


def traits(name: str) -> Traits:
    said = text(name)
    card = re.search(r"GPU 0[\d,]*: (.+)", said) or re.search(r"Found GPU0 (.+) which", said)
    capability = re.search(r"apability(?: sm_|: |.*?)(\d+)\.?(\d)\b", said)
    arm = "aarch64" in said or "GB200" in said  # Grace is its only processor
    return Traits(
        card[1].strip() if card else None,
        f"{capability[1]}.{capability[2]}" if capability else None,
        "aarch64" if arm else "x86_64",
        wsl="microsoft" in said,
    )


def the_gpu(name: str) -> Gpu:
    said = text(name)
    found = traits(name)
    driver = re.search(r"[Dd]river [Vv]ersion\s*: (\d\S+)", said)
    return Gpu(
        card=found.card is not None,
        names=(found.card,) if found.card else (),
        driver=driver[1] if driver else "580.95.05",
        wsl=found.wsl,
        toolkit="1.18.0",
        specifications=(FRESH,),
    )


def test_each_kind_has_a_machine() -> None:
    assert set(ALL) == set(KINDS)
    told = {kind.name for kind in known().kind} - set(KINDS.values())
    assert told == {"Turing", "aarch64 without a GPU"}  # test_smi and test_recorded_tools have them


def test_each_says_where_it_is_from() -> None:
    assert all(text(name).startswith("# ") and "https://" in text(name) for name in ALL)


@pytest.mark.parametrize("name", ALL)
def test_each_machine_is_recognised(name: str) -> None:
    found = traits(name)
    kind = recognise(found)
    assert kind is not None
    assert kind.name == KINDS[name]
    by_name = recognise(Traits(found.card, None, found.machine, wsl=found.wsl))
    assert by_name == kind, "its name and its compute capability say the same"


@pytest.mark.parametrize("name", ALL)
def test_its_driver_is_judged(name: str) -> None:
    found = the_gpu(name)
    problem = gpu.driver_problem(found)
    if "old" not in name and "cpu-torch" not in name:
        assert problem is None
        return
    assert problem is not None
    assert FLOOR in problem.happened
    assert ("wsl --update" in problem.type_this) == found.wsl


@pytest.mark.parametrize("name", [it for it in ALL if "old" not in it and "cpu-torch" not in it])
def test_a_machine_in_order_gives_no_alarm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inert(tmp_path, monkeypatch)
    variant = "gpu" if traits(name).card else "cpu"
    results = host.checks("compose", variant, seen(engine("docker-28-cdi"), the_gpu(name)))
    assert [it.name for it in results if it.status == "failed"] == []


def test_an_old_gpu_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inert(tmp_path, monkeypatch)
    found = seen(engine("docker-28-cdi"), the_gpu("v100-old-driver"))
    results = {it.name: it for it in host.checks("compose", "gpu", found)}
    assert results["host_kind"].status == "failed"
    assert "older than Turing: the lab's CUDA 13 has no code" in results["host_kind"].message
    assert "--variant cpu" in (results["host_kind"].hint or "")

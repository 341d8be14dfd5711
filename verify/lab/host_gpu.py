"""The GPU: whether the lab's CUDA knows its kind, whether it is well, and whether it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verify.kinds import Traits, recognise
from verify.lab import choice, smi
from verify.lab.problems import Problem
from verify.machine import Advice

if TYPE_CHECKING:
    from verify.lab.view import Finding, View

_ON_CPU = "invoke lab.down && invoke lab.up --variant cpu"


def kind(view: View) -> Finding:
    """Return the GPU's kind; why CUDA 13 or bfloat16 do not know it."""
    gpu = view.seen.gpu
    if not gpu.card or not gpu.names:
        return None
    found = recognise(Traits(gpu.name, wsl=gpu.wsl))
    if found is None:
        return f"{gpu.name}: of no kind that the lab knows"
    if not found.cuda13:
        return Problem(
            f"{gpu.name} is {found.name}: the lab's CUDA 13 has no code for it.",
            cause="CUDA 12.9 was the last for this generation",
            type_this=_ON_CPU,
        )
    if not found.bf16:
        return Problem(
            f"{gpu.name} ({found.name}) has no bfloat16 of its own: it would be imitated, and "
            "slow.",
            cause="Ampere was the first generation with it",
            type_this=_ON_CPU,
        )
    return f"{found.name} under Windows (WSL 2)" if gpu.wsl else found.name


def health(view: View) -> Finding:
    """Return that the counters of all GPUs tell of no fault, or what they tell of."""
    told = view.seen.gpu.told
    return smi.trouble(told) or smi.summary(told)


def used(view: View) -> Finding:
    """Return that the lab computes on the GPU that is here; `Advice` if it could and does not.

    What keeps it from that is told by other checks.
    """
    if not view.seen.gpu.card or not view.variant:
        return None
    if view.variant == "gpu":
        return view.seen.gpu.name
    if choice.obstacle_to_gpu(view.seen) or isinstance(kind(view), Problem):
        return None
    return Advice(
        f"The lab runs on the CPU, and {view.seen.gpu.name} is here.",
        cause="it was brought up before the GPU was there, or with --variant cpu",
        type_this="invoke lab.down && invoke lab.up --variant gpu",
    )

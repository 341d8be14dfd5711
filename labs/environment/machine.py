"""Which kind of machine this is, and whether CUDA 13 and bfloat16 know it."""

from __future__ import annotations

import torch

from verify import describe
from verify.kinds import Kind, Traits, is_wsl, recognise
from verify.machine import Fault


def look() -> Traits:
    """Return what tells this machine's kind; of a GPU that torch does not see, its name."""
    if not torch.cuda.is_available():
        return Traits(describe.gpu(), wsl=is_wsl())
    major, minor = torch.cuda.get_device_capability(0)
    return Traits(torch.cuda.get_device_name(0), f"{major}.{minor}", wsl=is_wsl())


def require_known(traits: Traits) -> str:
    """Return the kind and what is expected of it; raise `Fault` if CUDA 13 does not know it.

    A machine of no known kind passes: nothing is expected of it.
    """
    kind = recognise(traits)
    below = " under Windows (WSL 2)" if traits.wsl else ""
    if kind is None:
        return f"{traits.card or traits.machine}{below}: of no known kind, nothing is expected"
    if not kind.cuda13 and torch.cuda.is_available():  # the CPU does, for those
        raise Fault(
            f"{traits.card} is {kind.name}: CUDA 13, of which the lab's torch is, has no code "
            "for it.",
            "R580 is the last driver and CUDA 12.9 the last CUDA for this generation",
            "invoke lab.down && invoke lab.up --variant cpu",
        )
    return f"{kind.name}{below}{_expectations(kind)}"


def _expectations(kind: Kind) -> str:
    if not kind.driver:
        return ""
    bf16 = "bfloat16" if kind.bf16 else "no bfloat16"
    return f": {bf16}, driver R{kind.driver} or newer, memory by {kind.memory}"

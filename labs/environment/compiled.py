"""A kernel in Triton, compiled here and run: torch.compile and fast libraries live on them."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import torch
from torch import Tensor

from verify.machine import Fault
from verify.trial import NotRun

try:  # not in torch's builds for the CPU; a kernel finds both names here, in its module
    triton: Any = importlib.import_module("triton")
    tl: Any = importlib.import_module("triton.language")
except ImportError:
    triton = tl = None

_BLOCK = 256


@dataclasses.dataclass(frozen=True)
class _Known:
    """Words of a compilation that failed, their cause, and what to type."""

    words: str
    cause: str
    type_this: str


# In the order in which they are looked for; words of Triton, ptxas and the C compiler.
_KNOWN = (
    _Known(
        "Python.h",
        "Python's headers are not installed: Triton compiles a small program for each kernel",
        "sudo apt install python3-dev",
    ),
    _Known(
        "ptxas",
        "Triton's assembler is not there, or older than this GPU; from Blackwell on Triton takes "
        "the one that TRITON_PTXAS_BLACKWELL_PATH names, and no longer TRITON_PTXAS_PATH",
        "export TRITON_PTXAS_BLACKWELL_PATH=/usr/local/cuda/bin/ptxas  # where the runner starts",
    ),
    _Known("C compiler", "no C compiler is installed", "sudo apt install build-essential"),
    _Known(
        "Permission denied",
        "Triton's cache cannot be written, or compiled code cannot be loaded from it",
        "ls -ld ~/.triton/cache; findmnt -T ~/.triton/cache",
    ),
)
_OTHER = _Known(
    "",
    "Triton, the driver and the GPU do not fit together",
    "rm -rf ~/.triton/cache  # then this again; and: nvidia-smi",
)


def _add_scaled(left, right, out, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Set ``out`` to left + 2 right; Triton compiles this text."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    a = tl.load(left + at, mask=inside)
    b = tl.load(right + at, mask=inside)
    tl.store(out + at, a + 2.0 * b, mask=inside)


def compile_one(left: Tensor, right: Tensor) -> str:
    """Return that a kernel was compiled and computes rightly; raise `Fault` if not.

    Args:
        left: float32, (n,).
        right: float32, (n,).
    """
    if triton is None:
        raise NotRun("no Triton in this build of torch")
    try:
        came = launch(left.cuda(), right.cuda()).cpu()
    except Exception as error:  # Triton, its assembler and a C compiler have theirs
        raise explain(error) from error
    if not torch.equal(came, left + 2.0 * right):
        raise Fault(
            "A kernel that Triton compiled computes wrongly.", _OTHER.cause, _OTHER.type_this
        )
    return f"Triton {triton.__version__}, {left.numel()} numbers right to the last bit"


def launch(left: Tensor, right: Tensor) -> Tensor:
    """Return left + 2 right as a kernel of Triton computes it."""
    out = torch.empty_like(left)
    kernel = triton.jit(_add_scaled)
    kernel[(triton.cdiv(left.numel(), _BLOCK),)](left, right, out, left.numel(), BLOCK=_BLOCK)
    return out


def explain(error: Exception) -> Fault:
    """Return what a compilation's end means."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
    known = next((it for it in _KNOWN if it.words in str(error)), _OTHER)
    return Fault(
        f"A kernel of Triton ended in {type(error).__name__}: {told}",
        known.cause,
        known.type_this,
    )

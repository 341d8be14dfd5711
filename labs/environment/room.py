"""How much memory the labs need to be free."""

from __future__ import annotations

from typing import Final

from verify.machine import Fault
from verify.room import GIB, Free, gpu_memory, main_memory

__all__ = ["FLOOR", "Free", "gpu_memory", "main_memory", "require"]

# A judgement, not a measurement: the labs' models are small, and a job shares the runner's loaded
# libraries; but with less than this a machine swaps, or ends a process, at the first batch.
FLOOR: Final = 2 * GIB


def require(found: Free) -> str:
    """Return how much is free and who says so; raise `Fault` if it is less than `FLOOR`."""
    told = f"{found.bytes / GIB:.1f} GiB free by {found.source}"
    if found.bytes < FLOOR:
        needed = f"the labs need {FLOOR / GIB:.0f} GiB"
        raise Fault(f"{told}; {needed}.", found.cause, found.type_this)
    return told

"""What a run may take here: what is free, less the floor that the lab leaves for the machine."""

from __future__ import annotations

import dataclasses
import os

import torch

from verify import memory_guard
from verify.room import Free, gpu_memory, main_memory


@dataclasses.dataclass(frozen=True)
class Room:
    """What is free, and what of it is not to be taken, in bytes."""

    free: Free
    floor: int

    @property
    def usable(self) -> Free:
        """What a run may take."""
        return dataclasses.replace(self.free, bytes=max(0, self.free.bytes - self.floor))


def look(where: torch.device) -> Room:
    """Return the room on ``where``.

    On a card with memory of its own the floor is for CUDA's context; where CPU and GPU share one
    memory, and on a CPU, it is `verify.memory_guard`'s.
    """
    if where.type == "cuda":
        own = not torch.cuda.get_device_properties(0).is_integrated
        return Room(gpu_memory(), memory_guard.GPU_FLOOR if own else _floor())
    return Room(main_memory(), _floor())


def _floor() -> int:
    return memory_guard.least(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))

"""The memory that processes have for themselves, as the kernel counts it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from verify.pids import descendants

MB: Final = 1e6
_LOOKS: Final = 0.01  # seconds from one look to the next


class Watch:
    """Looks at what is below a process while the block runs, and keeps the highest sum.

    What was there before the block is not counted: the process that jobs are forked from.

    Attributes:
        peak: Private memory in MB at the highest, by process id.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = set(descendants(pid))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.peak: dict[int, float] = {}

    @property
    def total(self) -> float:
        """The highest sum, in MB."""
        return sum(self.peak.values())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOKS):
            now = {pid: private(pid) for pid in set(descendants(self._pid)) - self._before}
            if sum(now.values()) > self.total:
                self.peak = now


def private(pid: int) -> float:
    """Return the private memory of a process in MB: of pages that no other process maps.

    https://docs.kernel.org/filesystems/proc.html, smaps_rollup. A sealed process shows it to root
    alone; one that has ended has none.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
        kib = [
            int(row.split()[1])
            for row in rows
            if row.startswith(("Private_Clean", "Private_Dirty"))
        ]
        return sum(kib) * 1024 / MB
    return 0.0


def resident_memory(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process in MB, now and at its highest."""
    rows = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    told = {name: text for name, _, text in (row.partition(":") for row in rows)}
    now, highest = (int(told[name].split()[0]) * 1024 / MB for name in ("VmRSS", "VmHWM"))
    return now, highest

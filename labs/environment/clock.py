"""Whether the clock can be right: certificates, tokens and records of runs depend on it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from pathlib import Path

from verify.machine import Fault

# The month in which this was written: before it, nothing of the lab was there.
_WRITTEN = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
_YEARS = 20
_DAY = 86_400.0


def require_plausible(files: Iterable[Path], now: float | None = None) -> str:
    """Return what the clock says; raise `Fault` if that cannot be.

    Args:
        files: Of the lab: the clock cannot be before any of them was written.
        now: Seconds since 1970; without it, what the clock says.
    """
    now = time.time() if now is None else now
    told = datetime.datetime.fromtimestamp(now, datetime.UTC)
    newest = max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
    first = max(_WRITTEN, datetime.datetime.fromtimestamp(newest - _DAY, datetime.UTC))
    if not first <= told <= _WRITTEN + datetime.timedelta(days=365 * _YEARS):
        raise Fault(
            f"The clock says {told:%Y-%m-%d %H:%M} UTC, and the lab is of {first:%Y-%m-%d}.",
            "its battery is empty, or nothing sets it; https and tokens fail by it. Or a file of "
            "the lab was written where the clock was ahead",
            "sudo timedatectl set-ntp true && timedatectl  # in a container: the host's clock",
        )
    return f"{told:%Y-%m-%d %H:%M} UTC"

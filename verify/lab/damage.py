"""What is wrong with the lab's environment when nothing in it starts any more."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Final

from verify.lab import locks

if TYPE_CHECKING:
    from verify.lab.layout import Layout

MEND: Final = "invoke lab.down && rm -rf .lab/venv && invoke lab.up"
_SECONDS: Final = 20.0
_SHOWN: Final = 3


def find(layout: Layout) -> str:
    """Return which files are gone and which torch is another; empty: nothing was found.

    Asked of the environment's own Python, of which the standard library is enough.
    """
    command = [str(layout.python), "-I", "-m", "verify.identity"]
    try:
        done = subprocess.run(  # noqa: S603 - the lab's own interpreter and our module
            command, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
        told = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    found = [f"{name}: files are missing, first {file}" for name, file in told["missing"].items()]
    wanted = locks.pin(layout, "torch")
    if told["torch"] != wanted:
        found.insert(0, f"torch: expected {wanted}, found {told['torch'] or 'none'}")
    return "; ".join(found[:_SHOWN])

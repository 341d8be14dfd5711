"""What a check of the client's side looks at, and what it may find."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from verify.lab.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verify.lab.choice import Seen
    from verify.lab.layout import Layout

Finding = str | Problem | None
"""What a check found: what holds (a sentence), what does not, or None where there is nothing.

`verify.machine.Advice` is what is not well, and fails nothing.
"""


@dataclasses.dataclass(frozen=True)
class View:
    """What there is to look at.

    Attributes:
        seen: What the machine has.
        layout: Where the lab lies.
        runtime: Where it runs: ``compose``, ``local`` or another; empty: not known.
        variant: ``gpu`` or ``cpu``; empty: not known.
        sealing: What the runner says of its walls; empty: not known.
        notes: What it says is missing of them.
        environ: The environment of whoever asks.
    """

    seen: Seen
    layout: Layout
    runtime: str = ""
    variant: str = ""
    sealing: str = ""
    notes: tuple[str, ...] = ()
    environ: Mapping[str, str] = dataclasses.field(default_factory=lambda: os.environ)

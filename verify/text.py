"""Text that came from a learner's code, made fit to be shown."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # terminal sequences
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # control characters, a lone escape among them
    r"|[\u2028\u2029\u202a-\u202e\u2066-\u2069]"  # line separators, changes of direction
    r"|[\ud800-\udfff\ufffe\uffff]"  # what XML cannot hold
)
_CHARACTERS = 300


def clean_lines(output: bytes) -> str:
    """Return a process's output as text of whole lines without control characters."""
    lines = output.decode("utf-8", "replace").splitlines()
    return "\n".join(_CONTROL.sub("", line.expandtabs(4)).rstrip() for line in lines)


def clean(text: str, limit: int = _CHARACTERS) -> str:
    """Return ``text`` as one line without control characters, cut at ``limit`` characters."""
    text = " ".join(_CONTROL.sub("", text[: 8 * limit]).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"

"""How far a build is: the steps that BuildKit works on, without those taken as they were."""

from __future__ import annotations

import re
from typing import Final

_STEP: Final = re.compile(r"#(\d+) (\[[^\]]+ \d+/\d+\]) (.*)")
_WORD: Final = re.compile(r"#(\d+) (\S+)")
_MOUNT: Final = re.compile(r"--mount=\S+\s+")
_SEEN: Final = 70  # characters of a step's command that are shown


class BuildSteps:
    """Hears a build's output line by line."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}

    def hear(self, line: str) -> str | None:
        """Return the step that ``line`` shows to be worked on, the first time it does."""
        if step := _STEP.match(line):
            command = " ".join(_MOUNT.sub("", step[3]).split())
            self._waiting[step[1]] = f"{step[2]} {command[:_SEEN]}".rstrip()
            return None
        word = _WORD.match(line)
        text = self._waiting.pop(word[1], None) if word else None
        return None if word and word[2] == "CACHED" else text

"""What the person at the keyboard sees while a task works: a line per step, ticked when done."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WORTH_TELLING = 0.5  # seconds: quicker steps are not timed


@dataclasses.dataclass
class Step:
    """One step: ``text`` while it is worked on, ``done`` when it is."""

    text: str
    done: str = ""


class Steps:
    """Prints steps to ``console``: with a spinner on a terminal, plain lines elsewhere.

    Colour follows the terminal and the NO_COLOR variable (https://no-color.org), as Rich does.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.tick = "+" if self.console.options.ascii_only else "\N{CHECK MARK}"

    def say(self, text: str) -> None:
        """Print one line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Show ``text`` while the block works, and the step's ``done`` with a tick after it."""
        step = Step(text)
        began = time.monotonic()
        with self.waiting(text):
            yield step
        self.ticked(step.done or text, time.monotonic() - began)

    @contextlib.contextmanager
    def timed(self) -> Iterator[Callable[[str], None]]:
        """Yield what ticks a text with the time since the block began."""
        began = time.monotonic()
        yield lambda text: self.ticked(text, time.monotonic() - began)

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Spin beside ``text`` while the block works, on a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(f"{text} ..."):
            yield

    def ticked(self, text: str, seconds: float = 0.0) -> None:
        """Print ``text`` with a tick, and how long it took where that is worth telling."""
        took = f" ({seconds:.1f} s)" if seconds >= _WORTH_TELLING else ""
        self.console.print(f"[green]{self.tick}[/green] ", end="")
        self.say(f"{text}{took}")

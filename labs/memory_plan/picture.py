"""A prediction on the screen: a table with the arithmetic, and bars of the three moments."""

from __future__ import annotations

from typing import Final

from rich.table import Table
from rich.text import Text

from labs.memory_plan.parts import CONSTANTS, Part
from labs.quickstart import fit
from labs.quickstart.memory import MOMENTS, Moment

_MARKS: Final = {
    "weights": ("W", "blue"),
    "NF4 weights": ("N", "bright_blue"),
    CONSTANTS: ("Q", "cyan"),
    "adapters": ("D", "magenta"),
    "optimizer": ("O", "yellow"),
    "gradients": ("G", "red"),
    "activations": ("A", "green"),
    "logits": ("L", "bright_magenta"),
    "working": ("T", "bright_black"),
}
"""A letter for each part, so that the picture can be read without colours, too."""
_WIDTH: Final = 48  # letters of the longest bar


def table(rows: list[Part], peak: Moment) -> Table:
    """Return a row for each part: its letter, size, share of the peak, and arithmetic."""
    made = Table(box=None, padding=(0, 1, 0, 0), show_edge=False)
    made.add_column("")
    made.add_column("part", no_wrap=True)
    made.add_column("takes", justify="right", no_wrap=True)
    made.add_column("at the peak", justify="right", no_wrap=True)
    made.add_column("because", overflow="fold")
    for row in rows:
        letter, colour = _MARKS[row.name]
        shown = [fit.size(it) if it else "-" for it in (row.whole, row.moments[peak])]
        made.add_row(Text(letter, f"bold {colour}"), row.name, *shown, row.formula)
    total = sum(row.moments[peak] for row in rows)
    made.add_row("", "total", "", fit.size(total), f"the peak: {fit.MOMENTS[peak]}", style="bold")
    return made


def bars(rows: list[Part], free: int) -> list[Text]:
    """Return a bar for each moment and one for what is free, all to one scale."""
    totals = {it: sum(row.moments[it] for row in rows) for it in MOMENTS}
    scale = max(1, *totals.values()) / _WIDTH
    lines = [
        _line(fit.MOMENTS[moment], _letters(rows, moment, scale), fit.size(totals[moment]))
        for moment in MOMENTS
    ]
    length = min(int(free / scale), _WIDTH)
    beyond = ">" if free > scale * _WIDTH else ""
    return [*lines, _line("may be taken", Text("-" * length + beyond), fit.size(free))]


def _letters(rows: list[Part], moment: Moment, scale: float) -> Text:
    """Return the parts' letters, each as often as its share asks: rounded where it ends."""
    made, before, drawn = Text(), 0, 0
    for row in rows:
        before += row.moments[moment]
        letter, colour = _MARKS[row.name]
        count = round(before / scale) - drawn
        made.append(letter * count, f"bold {colour}")
        drawn += count
    return made


def _line(title: str, bar: Text, size: str) -> Text:
    room = " " * (_WIDTH + 2 - len(bar))
    return Text.assemble(f"{title:14}", bar, room, f"{size:>9}")

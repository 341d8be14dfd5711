"""Showing the services' logs."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from verify.lab import jupyter, runner
from verify.lab.problems import Misuse

if TYPE_CHECKING:
    from verify.lab.layout import Layout
    from verify.lab.processes import Service
    from verify.lab.steps import Steps

_EVERY = 0.3  # seconds between two looks at a log that is followed


def show(
    layout: Layout, steps: Steps, service: str | None, lines: str, *, follow: bool = False
) -> None:
    """Print the last lines of the logs; with ``follow`` go on until Ctrl-C.

    Args:
        layout: Which lab.
        steps: Where to print.
        service: ``jupyter`` or ``runner``; None for both.
        lines: How many lines of each, as typed.
        follow: Whether to print new lines as they come.

    Raises:
        Misuse: there is no such service, or ``lines`` is not a number.
    """
    chosen = _chosen(layout, service)
    if not lines.isdecimal():
        raise Misuse(f"--lines {lines} is not a number.", type_this="invoke lab.logs --lines 50")
    for it in chosen:
        told = it.last_lines(int(lines)) if int(lines) else []
        for line in told or [f"(nothing yet in {it.log})"]:
            _print(steps, it, line)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(steps, chosen)


def _chosen(layout: Layout, service: str | None) -> list[Service]:
    known = {it.name: it for it in (jupyter.service(layout), runner.service(layout))}
    if service is None:
        return list(known.values())
    if service not in known:
        raise Misuse(
            f"There is no service `{service}`. The services are: {', '.join(known)}.",
            type_this=f"invoke lab.logs --service {next(iter(known))}",
        )
    return [known[service]]


def _follow(steps: Steps, services: list[Service]) -> None:
    places = {it.name: _size(it) for it in services}
    while True:
        time.sleep(_EVERY)
        for it in services:
            size = _size(it)
            if size < places[it.name]:  # a new file of that name
                places[it.name] = 0
            if size > places[it.name]:
                with it.log.open("rb") as file:
                    file.seek(places[it.name])
                    new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                places[it.name] += len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    _print(steps, it, line)


def _size(service: Service) -> int:
    return service.log.stat().st_size if service.log.exists() else 0


def _print(steps: Steps, service: Service, line: str) -> None:
    steps.say(f"{service.name:8}| {line}")

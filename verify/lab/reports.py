"""What runs of the lab: the same report from every runtime, shown as one table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.table import Table

from verify.lab import environment, runner
from verify.lab.problems import ENVIRONMENT_FAULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from verify.lab.layout import Layout
    from verify.lab.steps import Steps


@dataclasses.dataclass(frozen=True)
class Row:
    """One service: its name, its state in a word or two, where it answers, and who it is."""

    service: str
    state: str
    where: str
    process: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What runs in one runtime.

    Attributes:
        runtime: ``compose`` or ``local``.
        rows: Its services; empty where there is nothing.
        link: Gives JupyterLab's URL with its token; None unless the whole lab answers.
        runner: What the runner says of itself, or None.
    """

    runtime: str
    rows: list[Row]
    link: Callable[[], str] | None
    runner: dict[str, Any] | None


def show(layout: Layout, steps: Steps, reports: list[Report], *, with_token: bool) -> int:
    """Print ``reports``; return 0 when a whole lab answers in some runtime, else 3."""
    table = Table("", "runtime", "state", "where", "process", box=None, pad_edge=False)
    for report in reports:
        for row in report.rows:
            table.add_row(row.service, report.runtime, row.state, row.where, row.process)
    steps.console.print(table, highlight=False, soft_wrap=True)
    for report in reports:
        if report.runner:
            steps.say(f"Learner code: {runner.sealing(report.runner)} ({report.runtime})")
            if report.runtime == "local" and not runner.is_current(report.runner):
                steps.say("The local runner runs older code than is on disk. Type: invoke lab.up")
    if layout.venv.exists():
        ready = "ready" if environment.is_ready(layout) else "unfinished or out of date"
        steps.say(f"Environment:  {ready} ({layout.venv})")
    steps.say(f"Workspace:    {layout.workspace}")
    links = [report.link for report in reports if report.link]
    if not links:
        steps.say("Type: invoke lab.up")
        return ENVIRONMENT_FAULT
    for link in links if with_token else ():
        steps.say(link())
    if not with_token:
        steps.say("The link with its token: invoke lab.status --url")
    return 0

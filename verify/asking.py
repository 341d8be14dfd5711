"""Who judges a run: the runner that is up, in containers or here, or one that is started for it."""

from __future__ import annotations

import argparse
import contextlib
import functools
import platform
from pathlib import Path
from typing import Final

from verify import client
from verify.channel import Channel
from verify.lab.layout import InImage, Layout
from verify.lab.problems import Problem
from verify.outcome import Outcome
from verify.plain import Plain
from verify.show import Screen

_PATIENCE: Final = {"compose": 60.0, "local": 0.0}
"""Seconds that a runner has to come back; nobody starts a local one anew."""


def ask(
    options: argparse.Namespace,
    layout: Layout,
    submissions: list[dict[str, Plain]],
    outcome: Outcome,
    screen: Screen,
) -> None:
    """Have the runner that was asked for judge ``submissions``, a resident one if any answers.

    Raises:
        Problem: none answers, and none can be started.
        client.Refused: it did not take them.
        client.RunnerLost: it ended on the way.
    """
    resident = layout.runners if options.labs is None else {}
    for name, place in resident.items():
        if options.runtime not in ("auto", name):
            continue
        connect = functools.partial(client.connect, place)
        try:
            if not isinstance(place, Path):
                client.hello(place)  # that a command starts says nothing of who answers
            client.persist(connect, submissions, options.seed, outcome.take, _PATIENCE[name])
        except client.NoRunner:
            if _is_only_busy(layout, place):
                raise _no_runner(name, layout) from None
        else:
            return
    if options.runtime in resident or not layout.holds_keys:
        raise _no_runner(options.runtime, layout)
    with _standalone(layout, options.labs, screen) as channel:
        client.verify(channel, submissions, options.seed, outcome.take)


def _is_only_busy(layout: Layout, place: client.Place) -> bool:
    """Tell whether the containers' runner is up but does not answer.

    Then nothing is judged beside it: whoever keeps it busy would have brought the learner's code
    out of its container.
    """
    outside = not isinstance(layout, InImage)
    expected = place == layout.runners["compose"]
    return outside and expected and isinstance(place, Path) and place.exists()


def _no_runner(runtime: str, layout: Layout) -> Problem:
    if not layout.holds_keys:
        return Problem(
            "The runner does not answer, and nothing can be judged in JupyterLab's own container.",
            cause="the runner's container is not up; this one holds no checks, by design",
            type_this="invoke lab.up  # on the host, in the project's folder; then this again",
        )
    return Problem(
        f"No {runtime} runner answers.",
        cause="it is not running, or too busy to answer",
        type_this=f"invoke lab.up --runtime {runtime}  # or: invoke verify --runtime standalone",
    )


def _standalone(
    layout: Layout, labs: Path | None, screen: Screen
) -> contextlib.AbstractContextManager[Channel]:
    if platform.system() != "Linux":
        raise Problem(
            f"Learner code cannot be sealed on {platform.system()}.",
            cause="the walls are made of parts of Linux",
            type_this="the same on Linux, in a Linux virtual machine or in WSL 2",
        )
    python = client.interpreter(layout.python)
    if python is None:
        raise Problem(
            "Nothing here can judge: no runner is up, and the lab environment is not there.",
            cause="no runner answers, and this Python has no torch to judge without one",
            type_this="invoke lab.up",
        )
    screen.waiting("No resident runner: starting one for this run, which takes some seconds")
    return client.standalone(python, labs or layout.labs, layout.standalone_results)

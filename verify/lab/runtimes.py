"""The lab in whichever runtime serves here: chosen, brought up, shown, stopped."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from verify.lab import (
    choice,
    compose,
    containers,
    image,
    jupyter,
    local,
    locks,
    reports,
)
from verify.lab import logs as local_logs
from verify.lab.problems import Misuse, Problem

if TYPE_CHECKING:
    from verify.lab.layout import Layout
    from verify.lab.steps import Steps

RUNTIMES = ("auto", "compose", "local")
VARIANTS = ("auto", "gpu", "cpu")

_TOKEN_IS_A_KEY = "Open this in a browser on this machine (the token in it is a key: keep it):"  # noqa: S105


def up(layout: Layout, steps: Steps, runtime: str, variant: str, port: int | None) -> None:
    """Bring the lab up in ``runtime``; return when it has proved that it works.

    Raises:
        Misuse: there is no such runtime or variant.
        Problem: the lab cannot come up.
    """
    _require(runtime, RUNTIMES, "--runtime")
    _require(variant, VARIANTS, "--variant")
    layout.prepare()
    with local.alone(layout, steps):
        seen = choice.look()
        chosen = choice.choose_runtime(runtime, seen)
        steps.say(f"Runtime: {chosen.name} ({chosen.why})")
        if chosen.name == "local":
            if variant == "gpu" and not seen.gpu.card:
                choice.choose_variant(variant, seen)  # says that there is none
            locks.ask_for(layout, None if variant == "auto" else variant)
            url = local.up(layout, steps, port)
        else:
            url = _up_in_containers(layout, steps, choice.choose_variant(variant, seen), port)
    steps.say(_TOKEN_IS_A_KEY)
    steps.say(url)


def down(layout: Layout, steps: Steps) -> None:
    """Stop what runs, in every runtime; files, results and volumes stay."""
    found = _containers(layout, steps)
    if not layout.run.exists() and not found:
        steps.say("Nothing of the lab runs.")
        return
    layout.prepare()
    with local.alone(layout, steps):
        stopped = [local.down(layout, steps)]
        if found:
            stopped.append(compose.down(layout, steps))
    steps.say("Your files and results are kept." if any(stopped) else "Nothing of the lab runs.")


def status(layout: Layout, steps: Steps, *, with_token: bool = False) -> int:
    """Show what runs; return 0 when a whole lab does, in either runtime, else 3."""
    told = [local.report(layout)]
    if found := _containers(layout, steps):
        told.insert(0, compose.report(layout, found))
    return reports.show(layout, steps, told, with_token=with_token)


def show_logs(
    layout: Layout, steps: Steps, service: str | None, lines: str, *, follow: bool
) -> None:
    """Show the last lines of the logs of what runs; the local lab's where nothing does."""
    running = _containers(layout, steps)
    if not running:
        local_logs.show(layout, steps, service, lines, follow=follow)
        return
    if service is not None and service not in running:
        raise Misuse(
            f"There is no service `{service}`. The services are: {', '.join(sorted(running))}.",
            type_this=f"invoke lab.logs --service {min(running)}",
        )
    if not lines.isdecimal():
        raise Misuse(f"--lines {lines} is not a number.", type_this="invoke lab.logs --lines 50")
    compose.logs(layout, service, lines, follow=follow)


def _up_in_containers(
    layout: Layout, steps: Steps, variant: choice.VariantChoice, port: int | None
) -> str:
    """Bring the two containers up; return JupyterLab's URL. A failure stops what this started."""
    steps.say(f"Variant: {variant.name} ({variant.why})")
    before = containers.of(layout.root)
    running = compose.port_of(before["jupyter"]) if "jupyter" in before else None
    wanted = port or running or compose.last_port(layout) or jupyter.PORT
    compose.require_port(layout, wanted)
    if not image.is_current(layout, variant.name):
        steps.say("The images are not there or out of date; the first time takes some minutes:")
        image.build_somehow(layout, steps, variant.name)
    settings = compose.settings(layout, variant.name, variant.wiring, wanted)
    with contextlib.ExitStack() as undo:
        if not before:
            undo.callback(compose.down, layout, steps)
        with steps.step("Containers: starting, loading the libraries") as step:
            compose.up(layout, steps, settings)
            owner = f"as user {settings['LAB_UID']}, the workspace's owner"
            step.done = f"Containers: jupyter ({owner}) and verifier are healthy"
        steps.ticked(f"Workspace: {layout.workspace}")  # JupyterLab's container has filled it
        with steps.step("JupyterLab") as step:
            key, told = compose.prove_jupyter(layout, wanted)
            step.done = f"JupyterLab: {told}"
        with steps.step("Verification round trip") as step:
            step.done = f"Verification round trip: {compose.prove_runner(layout)}"
        undo.pop_all()
    compose.write_settings(layout, settings)
    return jupyter.url(wanted, key)


def _containers(layout: Layout, steps: Steps) -> dict[str, Any]:
    """Return this lab's containers; where the engine cannot be asked, say so: they may be up."""
    try:
        return containers.of(layout.root)
    except Problem as problem:
        if (layout.root / ".env").exists() or layout.log("compose").exists():
            steps.say(f"Containers of this lab may be up: {problem.happened}")
        return {}


def _require(given: str, known: tuple[str, ...], flag: str) -> None:
    if given not in known:
        raise Misuse(
            f"{flag} {given} is none of {', '.join(known)}.", type_this=f"invoke lab.up {flag} auto"
        )

"""The lab's commands: `invoke --list` is the menu, `invoke --help COMMAND` explains one.

Exit codes: 0 done (verify: ready), 1 not ready yet, 2 wrong usage, 3 a fault of the environment
or of the lab, 130 interrupted. Invoke itself answers a mistyped flag with 1.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python reads this file to say so)
    sys.stderr.write(
        "This lab needs Python 3.11 or newer, and Invoke runs on Python %d.%d here.\n"  # noqa: UP031
        "Likely cause: an older Python comes first on this machine.\n"
        "Type: python3.11 -m venv .venv && . .venv/bin/activate && pip install -e . "
        "&& invoke lab.up\n" % sys.version_info[:2]
    )
    raise SystemExit(3)

from importlib.util import find_spec

_MISSING = [name for name in ("invoke", "rich", "msgspec") if find_spec(name) is None]
if _MISSING:
    sys.stderr.write(
        f"The library {_MISSING[0]} is missing.\n"
        "Likely cause: Invoke was installed by itself, without this project.\n"
        "Type: pip install -e .\n"
    )
    raise SystemExit(3)

from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from verify.lab.layout import InImage, here

# Each command imports what it needs itself: a learner waits for `invoke verify` only.
if TYPE_CHECKING:
    from collections.abc import Callable

    from verify.lab.steps import Steps

LAYOUT = here()


@task(
    help={
        "skill": "verify this skill; may be given again; without it: all",
        "workspace": "where DIR/<skill>/exercise.py are (workspace/ without it)",
        "runtime": "auto, compose or local (their resident runner), standalone (one for this run)",
        "seed": "repeat the inputs of an earlier run; such a run is practice",
        "json": "write the record to this file as JSON",
        "junit": "write the record to this file as JUnit XML",
        "labs": "a folder with labs of your own",
        "color": "colour; the variable NO_COLOR switches it off too",
    },
    iterable=["skill"],
    auto_shortflags=False,
)
def verify(
    _context: Context,
    skill: list[str],
    workspace: str | None = None,
    runtime: str | None = None,
    seed: str | None = None,
    json: str | None = None,
    junit: str | None = None,
    labs: str | None = None,
    color: bool = True,
) -> None:
    """Tell which skills are ready, why others are not, what to review."""
    from verify import cli

    flags = {"workspace": workspace, "runtime": runtime, "seed": seed, "json": json}
    flags |= {"junit": junit, "labs": labs}
    given = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    given += [f"--skill={name}" for name in skill]
    _run(lambda _steps: cli.run([*given, *([] if color else ["--no-color"])]))


@task(
    name="quickstart",
    help={
        "model": "a folder or a model of the hub (without it: the small one that is bundled)",
        "data": "a folder with train.jsonl and test.jsonl (without it: json-answers)",
        "method": "qlora (frozen weights in NF4) or lora (in 16 bits)",
        "steps": "updates of the weights; a larger number goes on with a finished run",
        "batch": "rows of one forward pass",
        "accumulate": "forward passes to one update",
        "length": "tokens a row may have; longer ones are left out",
        "learning-rate": "without it: by the size of the model",
        "rank": "of the adapters",
        "checkpointing": "auto (where it does not fit without), on or off",
        "seed": "decides all that is drawn",
        "output": "the run's folder (without it: one in workspace/quickstart)",
        "fresh": "begin again; an earlier run is kept",
        "color": "colour; the variable NO_COLOR switches it off too",
    },
    auto_shortflags=False,
)
def fine_tune(
    _context: Context,
    model: str | None = None,
    data: str | None = None,
    method: str | None = None,
    steps: str | None = None,
    batch: str | None = None,
    accumulate: str | None = None,
    length: str | None = None,
    learning_rate: str | None = None,
    rank: str | None = None,
    checkpointing: str | None = None,
    seed: str | None = None,
    output: str | None = None,
    fresh: bool = False,
    color: bool = True,
) -> None:
    """Fine-tune a model, and see what changed; again: goes on.

    Says beforehand whether it fits into memory, and shows loss, answers before and after, speed.
    All of it is kept in workspace/quickstart; labs/quickstart/README.md explains it.
    """
    from verify.lab import quickstart

    told = {"model": model, "data": data, "method": method, "steps": steps, "batch": batch}
    told |= {"accumulate": accumulate, "length": length, "learning-rate": learning_rate}
    told |= {"rank": rank, "checkpointing": checkpointing, "seed": seed, "output": output}
    flags = {name: value for name, value in told.items() if value is not None}
    switches = [*(["--fresh"] if fresh else []), *([] if color else ["--no-color"])]
    _run(lambda steps: quickstart.run(LAYOUT, steps, flags, switches))


@task(
    name="plan",
    help={
        "model": "folder, config.json, shape (llama-8b) or hub name (without it: the bundled one)",
        "method": "qlora, lora or full",
        "batch": "rows of one forward pass",
        "length": "tokens of a row",
        "accumulate": "forward passes to one update",
        "rank": "of the adapters",
        "targets": "layers with adapters: all-linear or attention",
        "optimizer": "adamw, adamw-8bit or sgd",
        "dtype": "of the weights: bfloat16 or float32",
        "mixed": "full: float32 master weights, products in bfloat16",
        "checkpointing": "activations computed again in backward",
        "measure": "also take two real steps with random weights, and measure the second",
        "json": "write the numbers to this file",
        "color": "colour; the variable NO_COLOR switches it off too",
    },
    auto_shortflags=False,
)
def plan_memory(
    _context: Context,
    model: str | None = None,
    method: str | None = None,
    batch: str | None = None,
    length: str | None = None,
    accumulate: str | None = None,
    rank: str | None = None,
    targets: str | None = None,
    optimizer: str | None = None,
    dtype: str | None = None,
    mixed: bool = False,
    checkpointing: bool = False,
    measure: bool = False,
    json: str | None = None,
    color: bool = True,
) -> None:
    """Say what training takes and whether it fits (exit code 1: not).

    From the model's config alone, part by part, with the arithmetic; no weight is read.
    """
    from verify.lab import memory_plan

    told = {"model": model, "method": method, "batch": batch, "length": length, "json": json}
    told |= {"accumulate": accumulate, "rank": rank, "targets": targets, "dtype": dtype}
    told["optimizer"] = optimizer
    flags = {name: value for name, value in told.items() if value is not None}
    asked = {"mixed": mixed, "checkpointing": checkpointing, "measure": measure}
    asked["no-color"] = not color
    switches = [f"--{name}" for name, wanted in asked.items() if wanted]
    _run(lambda steps: memory_plan.run(LAYOUT, steps, flags, switches))


@task(
    help={
        "runtime": "auto, compose (two containers) or local (processes, no Docker needed)",
        "variant": "auto, gpu or cpu",
        "port": "JupyterLab's port on 127.0.0.1 (without it: the last one, at first 8888)",
    },
    auto_shortflags=False,
)
def up(
    _context: Context, runtime: str = "auto", variant: str = "auto", port: str | None = None
) -> None:
    """Bring the lab up; ends with one URL to open.

    Chooses containers where a Docker engine answers, else processes of this machine, and says
    why. Fills workspace/, starts the runner and JupyterLab on 127.0.0.1, and proves that both
    work. Again: only what is down or out of date.
    """
    from verify.lab import ports, runtimes

    _run(
        lambda steps: runtimes.up(
            LAYOUT, steps, runtime, variant, ports.parse_port(port) if port else None
        )
    )


@task
def down(_context: Context) -> None:
    """Stop what lab.up started; your files and results stay."""
    from verify.lab import runtimes

    _run(lambda steps: runtimes.down(LAYOUT, steps))


@task(help={"url": "also print JupyterLab's URL with its token"}, auto_shortflags=False)
def status(_context: Context, url: bool = False) -> None:
    """Show what runs, and where things are (exit code 3: no whole lab)."""
    from verify.lab import runtimes

    _run(lambda steps: runtimes.status(LAYOUT, steps, with_token=url))


@task(
    name="logs",
    help={
        "follow": "go on printing new lines until Ctrl-C",
        "service": "only this one: jupyter or verifier (containers), jupyter or runner (local)",
        "lines": "how many of the last lines of each (20 without it)",
    },
    auto_shortflags=False,
)
def show_logs(
    _context: Context, follow: bool = False, service: str | None = None, lines: str = "20"
) -> None:
    """Show the last lines of JupyterLab's and the runner's logs."""
    from verify.lab import runtimes

    _run(lambda steps: runtimes.show_logs(LAYOUT, steps, service, lines, follow=follow))


@task(help={"skill": "whose exercise to begin again"}, auto_shortflags=False)
def reset(_context: Context, skill: str = "") -> None:
    """Put a skill's starter back; what you wrote is kept beside it."""
    from verify.lab import workspace

    _run(lambda steps: steps.say(workspace.reset(LAYOUT, skill)))


@task(
    help={
        "variant": "cpu or gpu",
        "base": "another base image; for gpu also a name of images/gpu/bases.toml, as 25.11",
        "platform": "for another kind of machine, as linux/arm64",
    },
    auto_shortflags=False,
)
def build(
    _context: Context, variant: str = "cpu", base: str | None = None, platform: str | None = None
) -> None:
    """Build the two images of a variant from this project."""
    from verify.lab import image

    if base or platform:
        _run(lambda steps: image.build(LAYOUT, steps, image.Wanted(variant, base, platform)))
    else:
        _run(lambda steps: image.build_somehow(LAYOUT, steps, variant))


@task(
    name="base",
    help={"mirror": "a Debian mirror (without it: the one apt uses here)"},
    auto_shortflags=False,
)
def make_base(_context: Context, mirror: str | None = None) -> None:
    """Make a base for the CPU images from Debian packages, where no registry answers.

    Then: invoke image.build --base finetune-lab-base:bookworm
    """
    from verify.lab import base_image

    _run(lambda steps: base_image.build(steps, mirror))


@task(
    name="verify",
    help={
        "here": "compare this environment (in a container: its own), not the images",
        "variant": "whose images, or whose manifest on a host: cpu or gpu",
    },
    auto_shortflags=False,
)
def verify_image(_context: Context, here: bool = False, variant: str = "cpu") -> None:
    """Compare with the image's manifest, each difference by name (exit code 1: some)."""
    from verify.lab import image_check

    _run(lambda steps: image_check.check(LAYOUT, steps, variant, here=here))


@task(
    name="check",
    help={
        "quiet": "print one line: ready, or what is wrong and what to type",
        "gpu-workload": "also compute on the GPU: products, kernels, speed (a minute at most)",
        "json": "write the record to this file as JSON",
        "junit": "write the record to this file as JUnit XML",
        "color": "colour; the variable NO_COLOR switches it off too",
    },
    auto_shortflags=False,
)
def check_node(
    _context: Context,
    quiet: bool = False,
    gpu_workload: bool = False,
    json: str | None = None,
    junit: str | None = None,
    color: bool = True,
) -> None:
    """Say whether this node is fit for jobs, for what runs before them (exit code 3: not).

    The checks of the environment lab without a runner; docs/node-check.md has examples for Slurm,
    Kubernetes and cron.
    """
    from pathlib import Path

    from verify import node

    record, suite = (Path(it) if it is not None else None for it in (json, junit))
    asked = node.Asked(quiet, gpu_workload, record, suite, color)
    _run(lambda _steps: node.run(LAYOUT, asked))


@task(
    name="test",
    help={
        "k": "only tests whose names match this expression, as pytest's -k",
        "args": 'more for pytest, as one text: --args "-x tests/lab"',
    },
    auto_shortflags=False,
)
def run_tests(context: Context, k: str | None = None, args: str = "") -> None:
    """Run the project's tests; what follows -- goes to pytest."""
    from verify.lab import quality

    arguments = quality.pytest_arguments(k, args, context.remainder)
    _run(lambda steps: quality.test(LAYOUT, steps, arguments))


@task
def check(context: Context) -> None:
    """Run everything a change must pass: lint, types and tests."""
    from verify.lab import quality

    arguments = quality.pytest_arguments(None, "", context.remainder)
    _run(lambda steps: quality.check(LAYOUT, steps, arguments))


def _run(action: Callable[[Steps], int | None]) -> None:
    from rich.console import Console

    from verify.lab import problems
    from verify.lab.steps import Steps

    code = problems.attempt(lambda: action(Steps()), Console(stderr=True))
    if code:  # 0 is not raised: more commands may follow on the same line
        raise SystemExit(code)


images = Collection("image", build, make_base, verify_image)
lab = Collection("lab", up, down, status, show_logs, reset)
memory = Collection("memory", plan_memory)
node_tasks = Collection("node", check_node)
namespace = Collection(verify, fine_tune, run_tests, check, lab, images, memory, node_tasks)
if isinstance(LAYOUT, InImage):  # what a terminal inside a container can do
    images, lab = Collection("image", verify_image), Collection("lab", reset)
    namespace = Collection(verify, fine_tune, lab, images, memory, node_tasks)

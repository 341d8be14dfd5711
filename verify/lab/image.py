"""The lab's images, built from this project."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import TYPE_CHECKING, Final

from verify.lab import base_image, build_inputs, build_troubles, containers, provenance
from verify.lab.build_steps import BuildSteps
from verify.lab.following import following
from verify.lab.problems import Misuse

if TYPE_CHECKING:
    from verify.lab.layout import Layout
    from verify.lab.steps import Steps

TARGETS: Final = {"lab": "", "verifier": "-verifier"}
"""What the name of each target's image ends in; compose.yaml names them alike."""
VARIANTS: Final = ("cpu", "gpu")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which images to build.

    Attributes:
        variant: ``cpu`` or ``gpu``.
        base: The base image, or None for the one that the Dockerfile pins.
        platform: As Docker writes it (``linux/arm64``), or None for this machine's.
    """

    variant: str
    base: str | None = None
    platform: str | None = None


def name(target: str, variant: str) -> str:
    """Return the image of ``target`` in ``variant``; LAB_IMAGE may name a registry's."""
    repository = os.environ.get("LAB_IMAGE") or "finetune-lab"
    return f"{repository}{TARGETS[target]}:{variant}"


def build(layout: Layout, steps: Steps, wanted: Wanted) -> None:
    """Build both images of a variant; what has not changed is taken as it was.

    Raises:
        Problem: there is no engine that can, or the build failed.
    """
    if wanted.variant not in VARIANTS:
        raise Misuse(
            f"There is no variant `{wanted.variant}`. The variants are: {', '.join(VARIANTS)}.",
            type_this=f"invoke image.build --variant {VARIANTS[0]}",
        )
    base = wanted.base and provenance.named_base(
        layout, wanted.variant, wanted.base, wanted.platform
    )
    resolved = dataclasses.replace(wanted, base=base)
    for target in TARGETS:
        build_target(layout, steps, resolved, target, name(target, wanted.variant))


def build_somehow(layout: Layout, steps: Steps, variant: str) -> None:
    """Build a variant on the base it was built on before, or on the one that its Dockerfile pins.

    Where no registry answers, the CPU images are built on a base of Debian's packages instead.

    Raises:
        Problem: that cannot be had either, or the build failed.
    """
    try:
        build(layout, steps, Wanted(variant, base_of(layout, variant)))
    except build_troubles.NoBase as problem:
        if variant != "cpu" or not base_image.can_be_made():
            raise
        steps.say(f"  {problem.happened} A base of Debian's packages does as well:")
        if base_image.NAME not in containers.images():
            base_image.build(steps)
        build(layout, steps, Wanted(variant, base_image.NAME))


def build_target(layout: Layout, steps: Steps, wanted: Wanted, target: str, tag: str) -> None:
    """Build one target of the variant's Dockerfile and name it ``tag``.

    Raises:
        Problem: the build failed.
    """
    layout.prepare()
    command = ["docker", "buildx", "build", "--progress", "plain", "--network", "host"]
    command += ["--file", f"images/{wanted.variant}/Dockerfile", "--target", target, "--tag", tag]
    for label, value in provenance.labels(layout, wanted.variant, wanted.base).items():
        command += ["--label", f"{label}={value}"]
    if wanted.base:
        command += ["--build-arg", f"BASE={wanted.base}"]
    if wanted.platform:
        command += ["--platform", wanted.platform]
    before = containers.images().get(tag)
    with build_inputs.arguments(layout) as inputs, steps.timed() as done:
        _run(layout, steps, [*command, *inputs, "."])
        made = containers.images()[tag]
        done(f"Image {tag}: {made['Size'] / 1e9:.2f} GB")
    if before and before["Id"] != made["Id"]:
        containers.remove_unnamed(before["Id"])


def base_of(layout: Layout, variant: str) -> str | None:
    """Return the base to build ``variant`` on again: the last one, if it is still to be had.

    None means the one that the Dockerfile pins: that of an earlier Dockerfile is not kept.
    """
    last = labels_of(name("lab", variant)).get(provenance.BASE, "")
    kept = "@" not in last or last in provenance.known_bases(layout, variant)
    return last if last and kept else None


def is_current(layout: Layout, variant: str) -> bool:
    """Return whether both images of ``variant`` are there and were built from what is on disk."""
    label = provenance.content(layout, variant)
    return all(
        labels_of(name(target, variant)).get(provenance.CONTENT) == label for target in TARGETS
    )


def _run(layout: Layout, steps: Steps, command: list[str]) -> None:
    """Run a build: each of its steps is said, all of its output is in the log."""
    log = layout.log("build")
    told: list[str] = []
    working = BuildSteps()
    with (
        following(command, folder=layout.root) as process,
        log.open("a", encoding="utf-8") as file,
    ):
        file.write(f"\n# {shlex.join(command)}\n")
        for line in filter(None, process.lines()):
            file.write(line)
            told.append(line)
            if step := working.hear(line):
                steps.say(f"  {step}")
        code = process.wait()
    if code:
        raise build_troubles.diagnose("".join(told), layout.locks, log)


def labels_of(image: str) -> dict[str, str]:
    """Return an image's labels; none where there is no such image."""
    known = containers.images().get(image)
    return dict(known.get("Labels") or {}) if known else {}

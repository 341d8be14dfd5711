"""Whether an environment is what an image's manifest says: this one, or that of the images."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from verify.lab import containers, image
from verify.lab.layout import InImage
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from verify.lab.layout import Layout
    from verify.lab.steps import Steps

_COMPARE = ("python", "-I", "-m", "verify.manifest", "compare")


def check(layout: Layout, steps: Steps, variant: str, *, here: bool) -> int:
    """Return 0 where nothing differs, 1 where something does; each difference is said.

    Raises:
        Problem: there is no image of ``variant``, or no environment here.
    """
    if isinstance(layout, InImage):
        return _compare(layout.python, layout.manifest)
    if here:
        return _compare(_require(layout.python), _manifest(layout, variant))
    found = [_check_image(steps, image.name(target, variant)) for target in image.TARGETS]
    return max(found)


def _check_image(steps: Steps, name: str) -> int:
    """Compare an image with its own manifest, in a container of it."""
    _require_image(name)
    steps.say(f"{name}:")
    code, told = containers.run_image(name, *_COMPARE)
    steps.say(told.decode(errors="replace").rstrip())
    return code


def _manifest(layout: Layout, variant: str) -> Path:
    """Take the manifest out of the image of ``variant``."""
    name = image.name("lab", variant)
    _require_image(name)
    _, told = containers.run_image(name, "cat", "/opt/lab/manifest.json")
    file = layout.state / f"manifest-{variant}.json"
    file.write_bytes(told)
    return file


def _compare(python: Path, manifest: Path) -> int:
    command = [str(python), *_COMPARE[1:], "--manifest", str(manifest)]
    return subprocess.run(command, check=False).returncode  # noqa: S603


def _require(python: Path) -> Path:
    if not python.exists():
        raise Problem(
            "There is no local environment to compare.",
            cause="the local runtime was never used here",
            type_this="invoke image.verify  # compares the images",
        )
    return python


def _require_image(name: str) -> None:
    if name not in containers.images():
        variant = name.rpartition(":")[2]
        raise Problem(
            f"There is no image {name}.",
            cause="it was not built here yet",
            type_this=f"invoke image.build --variant {variant}",
        )

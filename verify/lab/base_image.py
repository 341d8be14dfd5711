"""A base for the CPU image made of Debian's packages, for where no registry answers."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from verify.lab import containers
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from verify.lab.steps import Steps

NAME: Final = "finetune-lab-base:bookworm"

_TOOL: Final = "mmdebstrap"

# libstdc++6: what the libraries' compiled parts are linked to. No apt: nothing is added later.
_PACKAGES: Final = ("python3", "python3-venv", "ca-certificates", "libstdc++6")


def can_be_made() -> bool:
    """Return whether this machine has what makes a base."""
    return shutil.which(_TOOL) is not None


def build(steps: Steps, mirror: str | None = None) -> None:
    """Make a base for the CPU image from Debian's packages.

    Raises:
        Problem: ``mmdebstrap`` is not there, or no mirror answers.
    """
    containers.images()  # no engine, no base
    tool = shutil.which(_TOOL)
    if tool is None:
        raise Problem(
            "mmdebstrap is not installed.",
            cause="it makes a small Debian out of its packages, where no registry answers",
            type_this="sudo apt install mmdebstrap debian-archive-keyring && invoke image.base",
        )
    with tempfile.TemporaryDirectory(prefix="lab-base-") as folder:
        archive = Path(folder, "base.tar")
        command = [tool, "--variant=essential", f"--include={','.join(_PACKAGES)}"]
        # What nobody reads in a container: 30 MB.
        command += [f"--dpkgopt=path-exclude=/usr/share/{it}/*" for it in ("man", "doc", "locale")]
        command += ["bookworm", str(archive), *([mirror] if mirror else _mirror())]
        with steps.step("Making a base image from Debian 12's packages") as step:
            made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if made.returncode:
                raise Problem(
                    f"The base could not be made: {last_line(made.stderr)}",
                    cause="no Debian mirror answers, or its keys are not here",
                    type_this="invoke image.base --mirror http://YOUR.MIRROR/debian",
                )
            containers.import_image(archive, NAME)
            size = containers.images()[NAME]["Size"] / 1e6
            step.done = f"Base image {NAME}: {size:.0f} MB"


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _mirror() -> list[str]:
    """Return the Debian mirror that apt on this machine uses, where it is a Debian."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)"]
    command += ["Created-By: Packages", "Origin: Debian"]
    with contextlib.suppress(OSError):
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return answer.stdout.split()[:1]
    return []

"""What a failed build's output means: one clear message for each way it fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from verify.lab import base_image, diagnosis, toolkit_errors
from verify.lab.locks import CPU_INDEX
from verify.lab.pip import Outcome
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX: Final = re.compile(r"^#\d+ (?:[\d.]+ )?", re.MULTILINE)  # step and seconds
_LOCK: Final = re.compile(r"ERROR: process .*install\.sh /mnt/([\w-]+\.lock)")
_UNREACHED: Final = re.compile(
    r"failed to (?:resolve source metadata|do request|authorize)|pull access denied"
)


class NoBase(Problem):
    """The base image cannot be fetched: another one will do."""


def diagnose(output: str, locks: Path, log: Path) -> Problem:
    """Return the problem behind a failed build.

    Args:
        output: All that it printed.
        locks: The folder of the lock files.
        log: Where the output is kept.
    """
    whole = f"the whole output is in {log}"
    if known := toolkit_errors.diagnose(output):
        return known
    if lock := _LOCK.search(output):
        return _pip(_PREFIX.sub("", output), locks / lock[1], log)
    if _UNREACHED.search(output):
        return NoBase(
            f"The base image could not be fetched; {whole}.",
            cause="its registry does not answer here, wants a login, or has no such image",
            type_this=f"invoke image.base && invoke image.build --base {base_image.NAME}"
            "  # for the CPU; the GPU image needs its registry",
        )
    if "exec format error" in output:
        return Problem(
            f"This machine cannot run programs of that platform; {whole}.",
            cause="no emulation (QEMU, binfmt) is set up for it",
            type_this="docker run --privileged --rm tonistiigi/binfmt --install all",
        )
    errors = re.findall(r"^#\d+ (?:[\d.]+ )?((?:ERROR|error).*)", output, re.MULTILINE)
    return Problem(
        f"The build failed: {errors[-1] if errors else base_image.last_line(output)}",
        cause=whole,
        type_this=f"tail -n 40 {log}",
    )


def _pip(output: str, lock: Path, log: Path) -> Problem:
    """Return the problem of pip inside a build: the same as on a machine."""
    first, elsewhere, second = output.partition(f"Looking in indexes: {CPU_INDEX}")
    if elsewhere:
        return diagnosis.no_cpu_torch(Outcome(1, first), Outcome(1, second), lock, log)
    return diagnosis.diagnose(Outcome(1, output), lock, log)

"""A run's record as files, and whether it tells of a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from verify.lab.problems import Misuse, Problem
from verify.machine import ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

    from verify.results import CheckResult, Run


def write(record: Run, json: Path | None, junit: Path | None) -> None:
    """Write the record to the files that were asked for.

    Raises:
        Problem: one could not be written.
    """
    for file, form in ((json, _json), (junit, _junit)):
        if file is None:
            continue
        try:
            form(record, file)
        except OSError as error:
            raise Problem(
                f"{file} could not be written: {error.strerror}.",
                cause="the folder is not there, is full, or is not yours",
                type_this="the same with another file",
            ) from error


def require_folders(json: Path | None, junit: Path | None) -> None:
    """Raise `Misuse` if a file was asked for in a folder that is not there, before all the work."""
    for file in (json, junit):
        if file is not None and not file.parent.is_dir():
            raise Misuse(
                f"There is no folder {file.parent} to write {file.name} into.",
                type_this=f"mkdir -p {file.parent}",
            )


def is_fault(check: CheckResult) -> bool:
    """Tell whether a result is a fault of the machine or of ours."""
    broken = check.status == "failed" and check.cause == ENVIRONMENT and check.level == "check"
    return check.status == "error" or broken


def _json(record: Run, file: Path) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _junit(record: Run, file: Path) -> None:
    from verify.junit import write  # noqa: PLC0415 - its library is needed here only

    write(record, file)

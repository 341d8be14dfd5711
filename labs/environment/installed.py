"""Files of libraries against what their wheels brought: was one changed after it was put there?

Hashing gigabytes takes minutes. A file has the size that its wheel's list says, and was not written
after that list was; only of one that was is the hash taken. Files that are gone are named by the
comparison with the lock.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

from verify.machine import Fault

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
_SLACK = 2.0  # seconds; an installer writes the list last, some file systems keep whole seconds
_SHOWN = 3
_COLUMNS = 3
_OWN = ("/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json")  # of whoever installed it


def require_unchanged(names: tuple[str, ...] = LIBRARIES, mend: str = "") -> str:
    """Return how many files were looked at; raise `Fault` with those that were changed.

    Args:
        names: Of these distributions.
        mend: What to type.
    """
    count, changed = 0, []
    for name in names:
        try:
            it = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # the comparison with the lock names it
        rows = list(_rows(it))
        count += len(rows)
        changed += [f"{name}: {path}" for path in _changed(it, rows)]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise Fault(
            f"Changed after it was installed: {', '.join(changed[:_SHOWN])}{more}.",
            "somebody edited the library, another package wrote over it, or the disk is failing",
            mend,
        )
    return f"{count} files of {', '.join(names)}"


def _rows(it: importlib.metadata.Distribution) -> Iterator[tuple[str, str, int | None]]:
    """Yield path, hash and, where it is told, size of each file, but for what installers write."""
    for row in csv.reader((it.read_text("RECORD") or "").splitlines()):
        brought = len(row) == _COLUMNS and row[1]
        # Scripts, which lie elsewhere, hold the path of their interpreter.
        if brought and not row[0].endswith((".pyc", *_OWN)) and not row[0].startswith(("..", "/")):
            yield row[0], row[1], int(row[2]) if row[2] else None


def _changed(
    it: importlib.metadata.Distribution, rows: list[tuple[str, str, int | None]]
) -> Iterator[str]:
    root = str(it.locate_file(""))
    listed = _written(Path(root), rows)
    for path, digest, size in rows:
        try:
            found = os.stat(f"{root}/{path}")  # noqa: PTH116 - of some 15,000 files
        except OSError:
            continue
        later = found.st_mtime > listed + _SLACK
        if size not in (None, found.st_size) or (later and _digest(Path(root, path)) != digest):
            yield path


def _written(root: Path, rows: list[tuple[str, str, int | None]]) -> float:
    """Return when the list itself was written."""
    folder = next((path.partition("/")[0] for path, *_ in rows if ".dist-info/" in path), "")
    try:
        return (root / folder / "RECORD").stat().st_mtime
    except OSError:
        return float("-inf")  # then every file is hashed


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

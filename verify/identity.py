"""Which distributions an interpreter sees, and which torch: read from the disk, nothing imported.

The standard library is all it takes: a build on a base image runs it before anything is installed.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import hashlib
import importlib.machinery
import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# What an installer writes of its own: the same wheel is the same without them.
# https://packaging.python.org/en/latest/specifications/recording-installed-packages/
_INSTALLERS: Final = ("/INSTALLER", "/REQUESTED", "/direct_url.json", "/RECORD")


@dataclasses.dataclass(frozen=True)
class Distribution:
    """An installed distribution.

    Attributes:
        version: As its metadata says.
        record: SHA-256 over the files and hashes that came with its wheel; empty: it has no list.
        missing: What of these files is not there, in order; a folder stands for all below it.
        own: Whether it is in this interpreter's own environment, not in one that it sees besides.
    """

    version: str
    record: str
    missing: list[str]
    own: bool


@dataclasses.dataclass(frozen=True)
class Torch:
    """The torch that an import would take.

    Attributes:
        distribution: The version that pip knows. NVIDIA's differs from the module's: 26.08 has
            ``...nv26.8.63802676`` here and ``...nv26.08`` there.
        module: ``torch.__version__``.
        cuda: ``torch.version.cuda``; None: a build for the CPU.
        location: Where the package is.
        record: SHA-256 over its METADATA and the part of RECORD that came with its wheel.
    """

    distribution: str | None
    module: str | None
    cuda: str | None
    location: str
    record: str


def normal(name: str) -> str:
    """Return a distribution's name as all spell it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions() -> dict[str, Distribution]:
    """Return the distributions that this interpreter sees, by name; of two the first on the path.

    Files are looked for, not read: hashing gigabytes takes minutes.
    """
    found: dict[str, Distribution] = {}
    folders = _Folders()
    for it in importlib.metadata.distributions():
        name = normal(it.metadata["Name"] or "")
        if name and name not in found:
            found[name] = _described(it, folders)
    return dict(sorted(found.items()))


def distribution(name: str) -> Distribution | None:
    """Return the one distribution of that name, or None where this interpreter sees none."""
    try:
        return _described(importlib.metadata.distribution(name), _Folders())
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_identity() -> Torch | None:
    """Return which torch an import would take, or None where there is none."""
    spec = importlib.machinery.PathFinder.find_spec("torch")
    if spec is None:
        return None
    places = spec.submodule_search_locations
    location = Path(next(iter(places)) if places else str(spec.origin))
    try:
        constants = _constants(location / "version.py")
    except (OSError, SyntaxError):
        constants = {}
    try:
        it = importlib.metadata.distribution("torch")
        version, record = it.version, _digest(_of_the_wheel(it.read_text("RECORD")), it)
    except importlib.metadata.PackageNotFoundError:
        version, record = None, ""
    return Torch(
        distribution=version,
        module=constants.get("__version__"),
        cuda=constants.get("cuda"),
        location=str(location),
        record=record,
    )


def main() -> None:
    """Print as JSON which torch there is, and the first file that is gone of each library."""
    there = distributions()
    gone = {name: it.missing[0] for name, it in there.items() if it.missing}
    torch = there.get("torch")
    json.dump({"torch": torch and torch.version, "missing": gone}, sys.stdout)


def _described(it: importlib.metadata.Distribution, folders: _Folders) -> Distribution:
    root = os.path.realpath(str(it.locate_file("")))
    rows = _of_the_wheel(it.read_text("RECORD"))
    return Distribution(
        version=it.metadata["Version"] or "",
        record=_digest(rows) if rows else "",
        missing=folders.missing(root, (path for path, _ in rows)),
        own=Path(root).is_relative_to(os.path.realpath(sys.prefix)),
    )


def _of_the_wheel(record: str | None) -> list[tuple[str, str]]:
    """Return path and hash of each file that came with the wheel, in order.

    Left out: compiled files, the installer's own, and what lies outside the environment's
    library folder: scripts hold the path of the interpreter that they were installed for.
    """
    rows = (row for row in csv.reader((record or "").splitlines()) if len(row) > 1)
    return sorted(
        (path, digest)
        for path, digest, *_ in rows
        if digest and not path.endswith((".pyc", *_INSTALLERS)) and not path.startswith(("..", "/"))
    )


def _digest(
    rows: list[tuple[str, str]], described: importlib.metadata.Distribution | None = None
) -> str:
    digest = hashlib.sha256()
    if described is not None:
        digest.update((described.read_text("METADATA") or "").encode() + b"\0")
    for path, content in rows:
        digest.update(f"{path}\0{content}\n".encode())
    return digest.hexdigest()


def _constants(file: Path) -> dict[str, str]:
    """Return the names in a module that stand for a text."""
    found: dict[str, str] = {}
    for line in ast.parse(file.read_text("utf-8")).body:
        if isinstance(line, ast.Assign):
            targets: list[ast.expr] = line.targets
        elif isinstance(line, ast.AnnAssign):
            targets = [line.target]
        else:
            continue
        if isinstance(line.value, ast.Constant) and isinstance(line.value.value, str):
            found |= {it.id: line.value.value for it in targets if isinstance(it, ast.Name)}
    return found


class _Folders:
    """What lies in folders, each listed once."""

    def __init__(self) -> None:
        self._listed: dict[str, frozenset[str] | None] = {}

    def missing(self, root: str, paths: Iterable[str]) -> list[str]:
        """Return what of ``paths`` below ``root`` is not there, the topmost of each."""
        found = {self._topmost(root, path) for path in paths if not self._has(root, path)}
        return sorted(found)

    def _has(self, root: str, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        names = self._names(f"{root}/{folder}")
        return names is not None and name in names

    def _topmost(self, root: str, path: str) -> str:
        while (above := path.rpartition("/")[0]) and not self._has(root, above):
            path = above
        return path

    def _names(self, folder: str) -> frozenset[str] | None:
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder))  # noqa: PTH208 - names only
            except OSError:
                self._listed[folder] = None
        return self._listed[folder]


if __name__ == "__main__":
    main()

"""Where an image comes from: what it was built from, on which base, and how it says so."""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any, Final

from verify.lab import containers

if TYPE_CHECKING:
    from verify.lab.layout import Layout

CONTENT: Final = "finetune-lab.content"
"""The label with the hash of all that went into an image from this project."""
BASE: Final = "org.opencontainers.image.base.name"

_REFERENCES: Final = ("reference", "amd64", "arm64")  # the keys of bases.toml that name images


def content(layout: Layout, variant: str) -> str:
    """Return a hash of all that goes into the images of ``variant`` from this project."""
    root = layout.root
    files = [root / "tasks.py", *(root / "images").glob("*.sh")]
    files += [*layout.locks.glob("*.lock"), *layout.locks.glob("*.in")]
    for folder in (root / "verify", layout.labs, root / "images" / variant):
        files += [file for file in folder.rglob("*") if "__pycache__" not in file.parts]
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def labels(layout: Layout, variant: str, base: str | None) -> dict[str, str]:
    """Return what an image says of where it comes from; the Dockerfile adds the base's name."""
    lock = hashlib.sha256((layout.locks / "lab.lock").read_bytes()).hexdigest()
    reference = base or _pinned_base(layout, variant)
    found = {
        CONTENT: content(layout, variant),
        "finetune-lab.lock": lock,
        "org.opencontainers.image.base.digest": reference.partition("@")[2],
        "org.opencontainers.image.revision": _revision(layout),
    }
    return {label: value for label, value in found.items() if value}


def _pinned_base(layout: Layout, variant: str) -> str:
    text = (layout.root / "images" / variant / "Dockerfile").read_text()
    found = re.search(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert found
    return found[1]


def _revision(layout: Layout) -> str:
    """Return the commit that is checked out; empty where there is none, or files differ from it."""
    command = ["git", "-C", str(layout.root), "describe", "--always", "--abbrev=40", "--dirty"]
    with contextlib.suppress(OSError):
        told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return told.stdout.strip()
    return ""


def named_base(layout: Layout, variant: str, base: str, platform: str | None) -> str:
    """Return the reference that ``base`` is a short name for, or ``base`` itself."""
    entry = _bases(layout, variant).get(base)
    return _reference(entry, platform) if entry else base


def known_bases(layout: Layout, variant: str) -> list[str]:
    """Return every reference in bases.toml."""
    entries = _bases(layout, variant).values()
    return [str(entry[key]) for entry in entries for key in _REFERENCES if key in entry]


def _bases(layout: Layout, variant: str) -> dict[str, dict[str, Any]]:
    try:
        return tomllib.loads((layout.root / "images" / variant / "bases.toml").read_text())
    except FileNotFoundError:
        return {}


def _reference(entry: dict[str, Any], platform: str | None) -> str:
    machine = platform.partition("/")[2] if platform else containers.architecture()
    return str(entry.get("reference") or entry[machine])
